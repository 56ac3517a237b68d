package envs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rootOf is a root with these files.
func rootOf(t *testing.T, files map[string]string) rootView {
	t.Helper()
	dir := t.TempDir()
	tree(t, dir, files)
	root, err := viewRoot(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.close)
	return root
}

func TestPerson(t *testing.T) {
	for name, test := range map[string]struct {
		passwd     string
		uid        uint32
		user, home string
		added      bool
	}{
		"known":        {"app:x:77777:77777::/srv/app:/bin/sh\n", 77777, "app", "/srv/app", false},
		"unknown":      {"root:x:0:0:root:/root:/bin/sh\n", 77777, "user", "/home/user", true},
		"no newline":   {"root:x:0:0:root:/root:/bin/sh", 77777, "user", "/home/user", true},
		"name taken":   {"user:x:1:1::/:\n", 77777, "user77777", "/home/user77777", true},
		"bad home":     {"app:x:77777:77777::srv:/bin/sh\n", 77777, "app", "/home/app", true},
		"system home":  {"bin:x:2:2::/bin:/bin/sh\ndaemon:x:77777:1::/usr/sbin:/bin/sh\n", 77777, "daemon", "/home/daemon", true},
		"no home":      {"app:x:77777:77777::/:/bin/sh", 77777, "app", "/home/app", true},
		"short record": {"app:x:77777\n", 77777, "user", "/home/user", true},
		"nothing":      {"", 77777, "user", "/home/user", true},
		"root, though": {"", 0, "root", "/root", true},
	} {
		got := person(t.Context(), rootOf(t, map[string]string{"etc/passwd": test.passwd}), test.uid, test.uid, "")
		if got.name != test.user || got.home != test.home || (len(got.files) > 0) != test.added {
			t.Errorf("%s: got %+v", name, got)
		}
		if !test.added {
			continue
		}
		text := string(got.files[0].Content)
		if f := record([]byte(text), 0, test.user); len(f) != 7 || f[5] != test.home || f[6] != got.shell {
			t.Errorf("%s: got passwd %q", name, text)
		}
		if test.user != "app" && test.user != "daemon" && !strings.HasPrefix(text, test.passwd) {
			t.Errorf("%s: what was in passwd went away: %q", name, text)
		}
	}
}

// Whom only a directory service knows is asked for, but never on the usual way in.
func TestDirectoryUser(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	tree(t, dir, map[string]string{"getent*": "#!/bin/sh\necho \"$@\" >>" + asked +
		"\n[ \"$2\" = 77777 ] || exit 2\necho 'jdoe:*:77777:88888:J. Doe:/home/corp/jdoe:/bin/zsh'\n"})
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	known := map[string]string{"etc/passwd": "app:x:77777:77777::/srv/app:/bin/sh\n"}
	if got := person(t.Context(), rootOf(t, known), 77777, 77777, ""); got.name != "app" {
		t.Errorf("got %+v", got)
	}
	if got := person(t.Context(), rootOf(t, nil), 0, 0, ""); got.name != "root" {
		t.Errorf("got %+v", got)
	}
	if text, err := os.ReadFile(asked); err == nil {
		t.Errorf("getent was asked for %s", text)
	}
	got := person(t.Context(), rootOf(t, nil), 77777, 88888, "")
	if got.name != "jdoe" || got.home != "/home/corp/jdoe" || len(got.files) != 2 {
		t.Fatalf("got %+v", got)
	}
	if text := string(got.files[0].Content); text != "root:x:0:0:root:/root:/bin/sh\njdoe:x:77777:88888::/home/corp/jdoe:/bin/sh\n" {
		t.Errorf("got passwd %q", text)
	}
	if text := string(got.files[1].Content); text != "root:x:0:\njdoe:x:88888:\n" {
		t.Errorf("got group %q", text)
	}
	if got := person(t.Context(), rootOf(t, nil), 77778, 88888, ""); got.name != "user" {
		t.Errorf("got %+v", got)
	}
}

// A root is foreign: what it has for a passwd may lead anywhere.
func TestPersonHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("app:x:77777:77777::/stolen:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := person(t.Context(), rootOf(t, map[string]string{"etc/passwd@": outside, "etc/group@": "/etc/group"}), 77777, 77777, "")
	for _, f := range got.files {
		if strings.Contains(string(f.Content), "stolen") {
			t.Errorf("a link was followed: %s", f.Content)
		}
	}
	inside := rootOf(t, map[string]string{"etc/passwd@": "/usr/etc/passwd", "usr/etc/passwd": "app:x:77777:77777::/srv/app:/bin/sh\n"})
	if got := person(t.Context(), inside, 77777, 77777, ""); got.name != "app" {
		t.Errorf("a link within the root wasn't followed: %+v", got)
	}
}

func TestShell(t *testing.T) {
	root := rootOf(t, map[string]string{"bin/zsh*": "", "bin/bash@": "/usr/bin/bash5", "usr/bin/bash5*": "", "usr/sbin/nologin*": "",
		"bin/false*": "", "relative*": "", "bin/sh*": "", "bin/plain": "", "usr/bin/fish*": ""})
	for _, test := range []struct{ shell, own, want string }{
		{"/bin/zsh", "/bin/bash", "/bin/zsh"},
		{"/usr/sbin/nologin", "", "/bin/bash"},
		{"/usr/sbin/nologin", "/opt/bin/fish", "/usr/bin/fish"},
		{"", "/usr/bin/zsh", "/bin/zsh"},
		{"", "/bin/false", "/bin/bash"},
		{"/bin/false", "", "/bin/bash"},
		{"", "", "/bin/bash"},
		{"/bin/gone", "", "/bin/bash"},
		{"/bin/plain", "", "/bin/bash"},
		{"relative", "relative", "/bin/bash"},
	} {
		a := account{shell: test.shell}
		if a.pickShell(root, test.own); a.shell != test.want {
			t.Errorf("%q, and the developer's %q: got %s, want %s", test.shell, test.own, a.shell, test.want)
		}
	}
	a := account{shell: "/bin/bash"}
	if a.pickShell(rootOf(t, nil), "/bin/zsh"); a.shell != "/bin/sh" {
		t.Errorf("nothing there: got %s", a.shell)
	}
}
