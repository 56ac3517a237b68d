package enginetest

import (
	"os"
	"path/filepath"
	"testing"
)

// layers lays two above the root, as tools come above an env: the topmost wins, folders
// are seen through each other with the uppermost one's mode, and none is written to.
func (s *suite) layers(t *testing.T) {
	dir := t.TempDir()
	top, below := filepath.Join(dir, "a,b:c"), filepath.Join(dir, "below")
	for _, d := range []string{filepath.Join(top, "etc"), filepath.Join(top, "opt/tools"), filepath.Join(below, "etc"), filepath.Join(below, "opt/tools")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	write(t, filepath.Join(top, "etc/plain"), "top\n")
	write(t, filepath.Join(top, "opt/tools/one"), "one\n")
	must(t, os.Link(filepath.Join(top, "opt/tools/one"), filepath.Join(top, "opt/tools/again")))
	write(t, filepath.Join(below, "etc/plain"), "below\n")
	write(t, filepath.Join(below, "etc/garbage"), "below\n")
	write(t, filepath.Join(below, "opt/tools/two"), "two\n")
	must(t, os.Chmod(filepath.Join(top, "opt/tools"), 0o711))
	before := manifest(t, dir)
	spec := s.spec()
	spec.Lower = []string{top, below}
	const look = `cat /etc/plain /etc/garbage /etc/linked /opt/tools/one /opt/tools/again /opt/tools/two; stat -c %a /opt/tools`
	if got, want := s.shell(t, spec, look), "top\nbelow\nplain\none\none\ntwo\n711"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// A session that is kept stands on all of them.
	spec.Upper = t.TempDir()
	spec.Command = []string{"bash", "-c", "echo mine >>/etc/plain; rm /opt/tools/two /etc/linked; echo new >/opt/tools/new; echo twin >/etc/twin; ln /etc/twin /opt/tools/twin"}
	if _, stderr, res := s.output(t, spec); res.ExitCode != 0 || res.Changed < 5 {
		t.Errorf("exit code %d, %d files are changed, want 5 or 6; %s", res.ExitCode, res.Changed, stderr)
	}
	const again = `cat /etc/plain /opt/tools/new; ls /opt/tools; [ -e /etc/linked ] || echo gone; [ /etc/twin -ef /opt/tools/twin ] && echo twins`
	if got, want := s.shell(t, spec, again), "top\nmine\nnew\nagain\nnew\none\ntwin\ngone\ntwins"; got != want {
		t.Errorf("the second session saw %q, want %q", got, want)
	}
	if after := manifest(t, dir); after != before {
		t.Errorf("a layer was written to:\n%s", differ(before, after))
	}
}

// keptOwners gives files to others, which goes well and does nothing.
func (s *suite) keptOwners(t *testing.T) {
	if s.options.NoSeccomp {
		t.Skip("without a filter system calls do what they do")
	}
	spec := s.spec()
	spec.UID, spec.GID, spec.KeepOwners = 0, 0, true
	if got := s.shell(t, spec, "cd /tmp; touch f; ln -s f l; chown 7:70000 f; chown -h 7 l; chmod 4755 f; stat -c %u:%g:%a f l"); got != "0:0:4755\n0:0:777" {
		t.Errorf("got %q", got)
	}
}
