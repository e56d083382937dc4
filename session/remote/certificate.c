/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <unistd.h>

enum { KEY_BITS = 2048, SERIAL_BITS = 63 };
#define DAY (24 * 60 * 60l)
#define GOOD_FOR (3650 * DAY)
#define RENEW_BEFORE (30 * DAY)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)

static X509 *load(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "server-cert.pem", NULL);
    g_autoptr(BIO) file = BIO_new_file(path, "r");
    return file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
}

static gboolean is_good(const char *folder)
{
    static const char *const others[] = {"ca-cert.pem", "server-key.pem"};
    time_t soon = time(NULL) + RENEW_BEFORE;
    g_autoptr(X509) c = load(folder);
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *path = g_build_filename(folder, others[i], NULL);
        if (access(path, R_OK) < 0)
            return FALSE;
    }
    return c && X509_cmp_time(X509_get0_notAfter(c), &soon) > 0;
}

static gboolean add_extension(X509 *c, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, c, c, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    gboolean ok = e && X509_add_ext(c, e, -1);
    X509_EXTENSION_free(e);
    return ok;
}

static gboolean set_serial(X509 *c)
{
    BIGNUM *n = BN_new();
    gboolean ok = n && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
                  BN_to_ASN1_INTEGER(n, X509_get_serialNumber(c));
    BN_free(n);
    return ok;
}

static X509 *make(EVP_PKEY *key, const char *name)
{
    g_autoptr(X509) c = X509_new();
    X509_NAME *subject = c ? X509_get_subject_name(c) : NULL;
    if (subject && X509_set_version(c, 2) && set_serial(c) &&
        X509_gmtime_adj(X509_getm_notBefore(c), -DAY) &&
        X509_gmtime_adj(X509_getm_notAfter(c), GOOD_FOR) && X509_set_pubkey(c, key) &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
                                   -1, 0) &&
        X509_set_issuer_name(c, subject) &&
        add_extension(c, NID_basic_constraints, "critical,CA:TRUE") &&
        X509_sign(c, key, EVP_sha256()))
        return g_steal_pointer(&c);
    return NULL;
}

/* A file that nobody else can read, whole or not at all. */
static gboolean save(const char *folder, const char *name, BIO *content, GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    char *data;
    long size = BIO_get_mem_data(content, &data);
    return g_file_set_contents_full(path, data, size, G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);
}

gboolean certificate_ensure(const char *folder, const char *name, GError **error)
{
    if (is_good(folder))
        return TRUE;
    if (g_mkdir_with_parents(folder, 0700) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: %s", folder,
                    g_strerror(errno));
        return FALSE;
    }
    g_autoptr(EVP_PKEY) key = EVP_RSA_gen(KEY_BITS);
    g_autoptr(X509) c = key ? make(key, name) : NULL;
    g_autoptr(BIO) key_text = BIO_new(BIO_s_mem());
    g_autoptr(BIO) text = BIO_new(BIO_s_mem());
    if (!c || !PEM_write_bio_X509(text, c) ||
        !PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the certificate could not be made");
        return FALSE;
    }
    return save(folder, "server-key.pem", key_text, error) &&
           save(folder, "ca-cert.pem", text, error) && save(folder, "server-cert.pem", text, error);
}

char *certificate_subject(const char *folder)
{
    char name[256];
    g_autoptr(X509) c = load(folder);
    if (!c ||
        X509_NAME_get_text_by_NID(X509_get_subject_name(c), NID_commonName, name, sizeof name) < 0)
        return NULL;
    return g_strdup_printf("CN=%s", name);
}
