package envs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
)

// session describes a session in a root with these files.
func session(t *testing.T, s *store.Store, root map[string]string, host lock.Host, p *Project, opts SessionOptions) runtime.Spec {
	t.Helper()
	dir := t.TempDir()
	tree(t, dir, root)
	spec, err := SessionSpec(t.Context(), s, Made{Release: Release{Target: "acme", Number: 3}, Root: dir, Host: host}, p, opts)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func variable(spec runtime.Spec, name string) string {
	for _, v := range spec.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func TestSessionSpec(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "developer's")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("https_proxy", "http://proxy.example:3128")
	p := testProject(t, "")
	host := lock.Host{Umask: "0027", Locale: "C.UTF-8", Timezone: "Europe/Berlin", NoFile: 4096}
	root := map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/zsh\n", "bin/zsh": "", "bin/bash": "", "etc/localtime": "TZif"}
	spec := session(t, testStore(t), root, host, p, SessionOptions{AsRoot: true, Terminal: true, Network: runtime.NetworkHost,
		Dir: filepath.Join(p.Dir, "sub"), Env: map[string]string{"EXTRA": "a b\n\"$c", "EMPTY": ""}})
	if spec.UID != 0 || spec.Umask != 0o027 || spec.NoFile != 4096 || spec.Hostname != "acme" || spec.Name != "acme@3" || !spec.Terminal {
		t.Errorf("got %+v", spec)
	}
	if !slices.Equal(spec.Command, []string{"/bin/zsh"}) || spec.Dir != filepath.Join(p.Dir, "sub") {
		t.Errorf("got command %q in %s", spec.Command, spec.Dir)
	}
	for name, want := range map[string]string{"LANG": "C.UTF-8", "TZ": "", "TERM": "xterm-256color", "HOME": "/root", "USER": "root",
		"SHELL": "/bin/zsh", "PATH": sessionPath, "STEAD_TARGET": "acme", "STEAD_RELEASE": "3", "EXTRA": "a b\n\"$c",
		"PS1": "(acme) $ ", "https_proxy": "http://proxy.example:3128", "SECRET_TOKEN": "", "LC_ALL": ""} {
		if got := variable(spec, name); got != want {
			t.Errorf("%s is %q instead of %q", name, got, want)
		}
	}
	if !slices.Contains(spec.Env, "EMPTY=") {
		t.Errorf("a variable set to nothing isn't set: %q", spec.Env)
	}
	if !slices.Contains(spec.Mounts, runtime.Mount{Source: p.Dir, Target: p.Dir}) {
		t.Errorf("the project isn't at its own path: %+v", spec.Mounts)
	}
}

func TestSessionOffline(t *testing.T) {
	t.Setenv("https_proxy", "http://proxy.example:3128")
	spec := session(t, testStore(t), nil, lock.Host{Timezone: "Europe/Berlin"}, testProject(t, ""), SessionOptions{Command: []string{"make"}})
	if spec.Network == runtime.NetworkHost || variable(spec, "https_proxy") != "" || variable(spec, "TERM") != "" || variable(spec, "PS1") != "" {
		t.Errorf("got %+v", spec)
	}
	if variable(spec, "TZ") != "Europe/Berlin" || variable(spec, "SHELL") != "/bin/sh" || spec.Umask != 0o022 {
		t.Errorf("got %+v", spec)
	}
	for _, f := range spec.Files {
		if f.Path == "/etc/resolv.conf" || f.Path == "/etc/hosts" && !strings.Contains(string(f.Content), "127.0.1.1\tacme\n") {
			t.Errorf("got %s: %s", f.Path, f.Content)
		}
	}
}

func TestHomes(t *testing.T) {
	home := t.TempDir()
	s, p := testStore(t), testProject(t, "")
	root := map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"}
	source := func(kind, target string) string {
		spec := session(t, s, root, lock.Host{}, p, SessionOptions{AsRoot: true, Home: kind, homeDir: target})
		for _, m := range spec.Mounts {
			if m.Target == "/root" {
				return m.Source
			}
		}
		return ""
	}
	if got := source("", ""); got != filepath.Join(s.Dir(), "homes", "acme") {
		t.Errorf("private: got %s", got)
	}
	if got := source(HomeNone, ""); got == "" || got == source(HomeNone, "") {
		t.Errorf("none: got %s twice", got)
	}
	if got := source(HomePrivate, home); got != home {
		t.Errorf("given: got %s", got)
	}
	_, err := SessionSpec(t.Context(), s, Made{Root: home}, p, SessionOptions{Home: "sweet"})
	if err == nil || !strings.Contains(err.Error(), `unknown home "sweet"`) {
		t.Errorf("got %v", err)
	}
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
		"name taken":   {"user:x:1:1::/:\n", 77777, "user77777", "/home/user", true},
		"bad home":     {"app:x:77777:77777::srv:/bin/sh\n", 77777, "app", "/", false},
		"short record": {"app:x:77777\n", 77777, "user", "/home/user", true},
	} {
		dir := t.TempDir()
		tree(t, dir, map[string]string{"etc/passwd": test.passwd})
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := person(root, test.uid, test.uid)
		root.Close()
		if got.name != test.user || got.home != test.home || (len(got.files) > 0) != test.added {
			t.Errorf("%s: got %+v", name, got)
		}
		if test.added {
			f := record(got.files[0].Content, 2, "77777")
			if len(f) != 7 && name != "short record" || !strings.HasPrefix(string(got.files[0].Content), test.passwd) {
				t.Errorf("%s: got passwd %q", name, got.files[0].Content)
			}
		}
	}
}

// A root is foreign: what it has for a passwd may lead anywhere.
func TestPersonHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("app:x:77777:77777::/stolen:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tree(t, dir, map[string]string{"etc/passwd@": outside, "etc/group@": "/etc/group"})
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	got := person(root, 77777, 77777)
	for _, f := range got.files {
		if strings.Contains(string(f.Content), "stolen") || strings.Contains(string(f.Content), "root") {
			t.Errorf("a link was followed: %s", f.Content)
		}
	}
}

func TestShell(t *testing.T) {
	for shell, want := range map[string]string{"/bin/zsh": "/bin/zsh", "/usr/sbin/nologin": "/bin/bash", "/bin/false": "/bin/bash",
		"": "/bin/bash", "/bin/gone": "/bin/bash", "relative": "/bin/bash"} {
		dir := t.TempDir()
		tree(t, dir, map[string]string{"bin/zsh": "", "bin/bash@": "/usr/bin/bash5", "usr/sbin/nologin": "", "bin/false": "", "relative": ""})
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := (account{shell: shell}).findShell(root); got != want {
			t.Errorf("%q: got %s, want %s", shell, got, want)
		}
		root.Close()
	}
}

func TestProjectIsNotShown(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"usr/share/doc/a": "", "var/log/b": ""})
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, dir := range []string{"/usr/share/doc", "/var/log", "/srv/nothing"} {
		var spec runtime.Spec
		err := mountProject(&spec, root, &Project{Dir: dir}, SessionOptions{Dir: dir})
		if shown := len(spec.Mounts) > 0; err != nil || shown != (dir == "/srv/nothing") {
			t.Errorf("%s, which nobody called a project: got %+v %v", dir, spec.Mounts, err)
		}
		spec = runtime.Spec{}
		if err := mountProject(&spec, root, &Project{Dir: dir, Configured: true}, SessionOptions{}); err != nil || len(spec.Mounts) != 1 {
			t.Errorf("project %s: got %+v %v", dir, spec.Mounts, err)
		}
	}
	for _, dir := range []string{"/", "/usr", "/etc"} {
		var spec runtime.Spec
		if err := mountProject(&spec, root, &Project{Dir: dir}, SessionOptions{Dir: dir}); err != nil || len(spec.Mounts) > 0 {
			t.Errorf("%s: got %+v %v", dir, spec.Mounts, err)
		}
		if err := mountProject(&spec, root, &Project{Dir: dir, Configured: true}, SessionOptions{}); err == nil {
			t.Errorf("%s would hide the target's own", dir)
		}
	}
	home, err := homeDir()
	if err != nil {
		t.Fatal(err)
	}
	var spec runtime.Spec
	if err := mountProject(&spec, root, &Project{Dir: home}, SessionOptions{}); err != nil || len(spec.Mounts) > 0 {
		t.Errorf("the home folder is shown: %+v %v", spec.Mounts, err)
	}
}
