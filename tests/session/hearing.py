# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests make of recordings: mono at 48 kHz, signed, in an array."""
RATE = 48000


def loud_part(a, level=300):
    """From the first to the last loud sample, and the gaps over 20 ms after the first 200 ms, in ms."""
    first = next((i for i, v in enumerate(a) if abs(v) > level), None)
    if first is None:
        return [], []
    last = len(a) - next(i for i, v in enumerate(reversed(a)) if abs(v) > level)
    gaps, quiet = [], 0
    for i in range(first + RATE // 5, last):
        if abs(a[i]) <= level:
            quiet += 1
        else:
            if quiet > RATE // 50:
                gaps.append(round(quiet * 1000 / RATE))
            quiet = 0
    return a[first:last], gaps


def rises(a):
    """Where it goes up through zero, between samples."""
    return [i - a[i] / (a[i] - a[i - 1]) for i in range(1, len(a)) if a[i - 1] < 0 <= a[i]]


def frequency(part):
    """By the crossings of zero, of the middle half."""
    ups = rises(part[len(part) // 4:len(part) * 3 // 4])
    spans = sorted(b - a for a, b in zip(ups, ups[1:]))
    return RATE / spans[len(spans) // 2] if spans else 0


def straight(points):
    """The line through them: (value at 0, slope)."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    slope = sum((x - mx) * (y - my) for x, y in points) / max(1e-9, sum((x - mx) ** 2 for x, _ in points))
    return my - slope * mx, slope


def clock(times):
    """When a sample came, from [(when, bytes there then)]: by each second's piece that came soonest, as others were held up."""
    pieces = {}
    for when, have in times[1:]:
        early = when - have / 2 / RATE
        second = int(when)
        if second not in pieces or early < pieces[second][0]:
            pieces[second] = (early, when, have / 2)
    base, slope = straight([(sample, when) for _, when, sample in pieces.values()])
    return lambda sample: base + slope * sample


def ways(a, times):
    """When each period of a long tone came."""
    first = next((i for i, v in enumerate(a) if abs(v) > 300), 0)
    when = clock(times)
    return [when(first + u) for u in rises(a[first:])]


def drift(source, heard, settle=15):
    """Of a long tone, two recordings (samples, times): how much later it is heard after a minute, once it has settled, and
    farthest from that line; ms. Where whole periods are lost these are of no use."""
    a, b = ways(*source), ways(*heard)
    late = [(p - a[0], (q - p) * 1000) for p, q in zip(a, b) if p - a[0] > settle]
    if len(late) < 1000:
        return None
    base, slope = straight(late)
    return slope * 60, max(abs(y - base - slope * x) for x, y in late)


def loudness(a, frame=RATE // 100):
    """Of each 10 ms."""
    return [(sum(v * v for v in a[i:i + frame]) / frame) ** 0.5 for i in range(0, len(a) - frame + 1, frame)]


def likeness(a, b):
    """Of what was played and what was recorded, by their loudness: (1 at best, seconds that it began later, gaps over 20 ms
    where the other is loud, in ms)."""
    la, lb = loudness(a), loudness(b)

    def at(lag):
        pairs = [(x, lb[i + lag]) for i, x in enumerate(la) if 0 <= i + lag < len(lb)]
        top = sum(x * y for x, y in pairs)
        return top / max(1e-9, (sum(x * x for x in la) * sum(y * y for _, y in pairs)) ** 0.5)
    lag = max(range(-100, len(lb) - len(la) + 100), key=at)
    gaps, quiet = [], 0
    for i, x in enumerate(la):
        y = lb[i + lag] if 0 <= i + lag < len(lb) else 0
        if x > 600 and y < x / 20:
            quiet += 1
        else:
            if quiet > 2:
                gaps.append(quiet * 10)
            quiet = 0
    return at(lag), lag / 100, gaps
