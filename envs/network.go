package envs

import (
	"os"
	"strings"

	"github.com/stead-env/stead/runtime"
)

// nameResolution gives the session this machine's resolver where it has this
// machine's network, and itself a name.
func (s *sessionPlan) nameResolution() {
	spec := &s.spec
	hosts := []byte("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	if spec.Network == runtime.NetworkHost {
		if data, err := readBounded("/etc/hosts", maxConfig); err == nil {
			hosts = data
		}
		if data, err := readBounded("/etc/resolv.conf", maxConfig); err == nil {
			spec.Files = append(spec.Files, runtime.File{Path: "/etc/resolv.conf", Content: data})
		}
	}
	hosts = appendLine(hosts, "127.0.1.1\t"+spec.Hostname+"\n")
	spec.Files = append(spec.Files, runtime.File{Path: "/etc/hosts", Content: hosts})
}

func proxies(vars map[string]string) {
	for _, name := range []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"} {
		for _, name := range []string{name, strings.ToUpper(name)} {
			vars[name] = os.Getenv(name)
		}
	}
}
