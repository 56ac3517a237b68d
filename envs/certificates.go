package envs

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/stead-env/stead/runtime"
)

// bundles are where systems keep the certificates of all authorities they trust in
// one file: Debian, Alpine and others, Fedora (twice), SUSE (twice), the BSDs.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/ca-bundle.pem",
	"/var/lib/ca-certificates/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// certificates shows the developer's bundle of certificates at each place where the
// target has one: who has this machine's network also meets its proxies.
func (s *sessionPlan) certificates() {
	if s.Network != runtime.NetworkHost || s.Certificates == OfTarget {
		return
	}
	own := ownBundle()
	if own == "" {
		return
	}
	var shown []string
	for _, place := range bundles {
		at, info := s.root.find(place)
		if info == nil || !info.Mode().IsRegular() || slices.Contains(shown, at) {
			continue
		}
		s.show(own, at, true)
		shown = append(shown, at)
	}
	if len(shown) > 0 {
		// OpenSSL by itself looks into a folder of certificates, too, where those of
		// this machine aren't.
		s.vars["SSL_CERT_FILE"] = shown[0]
	}
}

// ownBundle is this machine's, or "".
func ownBundle() string {
	for _, place := range append([]string{os.Getenv("SSL_CERT_FILE")}, bundles...) {
		if !filepath.IsAbs(place) {
			continue
		}
		at, err := filepath.EvalSymlinks(place)
		if err != nil {
			continue
		}
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			return at
		}
	}
	return ""
}
