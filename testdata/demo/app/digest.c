/* Prints which OpenSSL it runs with, and the SHA-256 digest of its first argument. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	const char *text = argc > 1 ? argv[1] : "";

	if (!EVP_Digest(text, strlen(text), md, &n, EVP_sha256(), NULL))
		return 1;
	printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
	for (unsigned int i = 0; i < n; i++)
		printf("%02x", md[i]);
	printf("\n");
	return 0;
}
