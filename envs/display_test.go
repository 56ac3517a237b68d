package envs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
)

func TestParseDisplay(t *testing.T) {
	for name, want := range map[string]struct {
		host   string
		number int
		bad    bool
	}{
		":0": {"", 0, false}, ":10.1": {"", 10, false}, "unix:2": {"", 2, false}, "localhost:10.0": {"localhost", 10, false},
		"[::1]:3": {"[::1]", 3, false}, "0": {bad: true}, ":": {bad: true}, ":x": {bad: true}, ":-1": {bad: true}, ":1/../../etc": {bad: true},
	} {
		host, number, err := parseDisplay(name)
		if (err != nil) != want.bad || host != want.host || number != want.number {
			t.Errorf("%q: got %q %d %v", name, host, number, err)
		}
	}
}

// A display that ssh -X forwards is on the network.
func TestForwardedDisplay(t *testing.T) {
	t.Setenv("DISPLAY", "localhost:10.0")
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("XAUTHORITY", filepath.Join(t.TempDir(), "none"))
	s, p := testStore(t), testProject(t, "")
	opts := SessionOptions{Settings: Settings{Network: runtime.NetworkHost, Display: &yes}}
	spec := session(t, s, nil, lock.Host{}, p, opts)
	if variable(spec, "DISPLAY") != "localhost:10.0" || variable(spec, "XAUTHORITY") != "" {
		t.Errorf("got %q", spec.Env)
	}
	opts.Network = runtime.NetworkNone
	_, err := SessionSpec(t.Context(), s, Made{Root: t.TempDir()}, p, opts)
	var display *DisplayError
	if !errors.As(err, &display) || !strings.Contains(err.Error(), "without the network") {
		t.Errorf("got %v", err)
	}
}

func TestDeviceNodes(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"file": "", "empty/": "", "link@": "/dev/null"})
	if got, err := deviceNodes("/dev/../dev/null"); err != nil || !slices.Equal(got, []string{"/dev/null"}) {
		t.Errorf("got %v %v", got, err)
	}
	if got, err := deviceNodes(filepath.Join(dir, "link")); err != nil || len(got) != 1 || got[0] != filepath.Join(dir, "link") {
		t.Errorf("got %v %v", got, err)
	}
	for name, want := range map[string]string{"file": "it is no device", "empty": "no device in it", "none": "no such file"} {
		if got, err := deviceNodes(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v %v", name, got, err)
		}
	}
}

func TestCertificates(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.pem")
	if err := os.WriteFile(own, []byte("own"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", own)
	debian := map[string]string{"etc/ssl/certs/ca-certificates.crt": "debian"}
	fedora := map[string]string{
		"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": "fedora",
		"etc/pki/tls/certs/ca-bundle.crt@":                 "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"etc/ssl/certs@":                                   "../pki/tls/certs",
		"etc/pki/tls/certs/ca-certificates.crt@":           "ca-bundle.crt",
	}
	suse := map[string]string{"var/lib/ca-certificates/ca-bundle.pem": "suse", "etc/ssl/ca-bundle.pem@": "../../var/lib/ca-certificates/ca-bundle.pem"}
	for _, test := range []struct {
		root map[string]string
		want string
	}{
		{debian, "/etc/ssl/certs/ca-certificates.crt"},
		{fedora, "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
		{suse, "/var/lib/ca-certificates/ca-bundle.pem"},
		{nil, ""},
		{map[string]string{"etc/ssl/cert.pem@": "/gone"}, ""},
		{map[string]string{"etc/ssl/cert.pem@": own}, ""},
	} {
		shown := func(settings Settings) (places []string, file string) {
			spec := session(t, testStore(t), test.root, lock.Host{}, testProject(t, ""), SessionOptions{Settings: settings})
			for _, m := range spec.Mounts {
				if m.Source == own && m.ReadOnly {
					places = append(places, m.Target)
				}
			}
			return places, variable(spec, "SSL_CERT_FILE")
		}
		places, file := shown(Settings{Network: runtime.NetworkHost})
		if strings.Join(places, " ") != test.want || file != test.want {
			t.Errorf("%v: got %v %s", test.root, places, file)
		}
		for _, none := range []Settings{{Network: runtime.NetworkNone}, {Network: runtime.NetworkHost, Certificates: OfTarget}} {
			if places, file := shown(none); len(places) > 0 || file != "" {
				t.Errorf("%+v: got %v", none, places)
			}
		}
	}
}

func TestKnownTerminal(t *testing.T) {
	old := rootOf(t, map[string]string{"lib/terminfo/x/xterm": "", "etc/terminfo/": "", "usr/share/terminfo/s/screen": "", "lib/terminfo/v/vt100": ""})
	linked := rootOf(t, map[string]string{"lib@": "/usr/lib", "usr/lib/terminfo/x/xterm-256color": "", "usr/lib/terminfo/x/xterm": ""})
	few := rootOf(t, map[string]string{"usr/share/terminfo/l/linux": ""})
	for _, test := range []struct {
		root       rootView
		term, want string
	}{
		{old, "xterm", "xterm"}, {old, "xterm-kitty", "xterm"}, {old, "tmux-256color", "screen"}, {old, "vt100", "vt100"}, {old, "", ""},
		{old, "../../etc/passwd", ""}, {linked, "alacritty", "xterm-256color"}, {linked, "xterm-256color", "xterm-256color"},
		{few, "xterm-ghostty", "linux"}, {rootOf(t, nil), "xterm-kitty", "xterm-kitty"},
	} {
		if got := knownTerminal(test.root, test.term); got != test.want {
			t.Errorf("%s: got %q, want %q", test.term, got, test.want)
		}
	}
}
