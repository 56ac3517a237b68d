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

var yes = true

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
	root := map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/zsh\n", "bin/zsh*": "", "bin/bash*": "", "etc/localtime": "TZif"}
	spec := session(t, testStore(t), root, host, p, SessionOptions{Terminal: true, Dir: filepath.Join(p.Dir, "sub"),
		Settings: Settings{Root: &yes, Network: runtime.NetworkHost, Variables: map[string]string{"EXTRA": "a b\n\"$c", "EMPTY": ""}}})
	if spec.UID != 0 || spec.Umask != 0o027 || spec.NoFile != 4096 || spec.Hostname != "acme" || spec.Name != "acme@3" || !spec.Terminal {
		t.Errorf("got %+v", spec)
	}
	if !slices.Equal(spec.Command, []string{"/bin/zsh"}) || spec.Dir != filepath.Join(p.Dir, "sub") {
		t.Errorf("got command %q in %s", spec.Command, spec.Dir)
	}
	for name, want := range map[string]string{"LANG": "C.UTF-8", "TZ": "", "TERM": "xterm-256color", "HOME": "/root", "USER": "root",
		"SHELL": "/bin/zsh", "PATH": sessionPath, "STEAD_TARGET": "acme", "STEAD_RELEASE": "3", "EXTRA": "a b\n\"$c",
		"PS1": "", "ZDOTDIR": "/run/stead/zsh", "https_proxy": "http://proxy.example:3128", "SECRET_TOKEN": "", "LC_ALL": ""} {
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
		spec := session(t, s, root, lock.Host{}, p, SessionOptions{Settings: Settings{Root: &yes, Home: kind}, homeDir: target})
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
	_, err := SessionSpec(t.Context(), s, Made{Root: home}, p, SessionOptions{Settings: Settings{Home: "sweet"}})
	if err == nil || !strings.Contains(err.Error(), `unknown home "sweet"`) {
		t.Errorf("got %v", err)
	}
}

// What is shown never opens the store: not by lying in it, and not by holding it.
func TestStoreIsNotShown(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, ".store"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root := t.TempDir()
	session := func(project string, mounts ...string) (runtime.Spec, error) {
		opts := SessionOptions{}
		for _, text := range mounts {
			m, err := ParseMount(text, project)
			if err != nil {
				t.Fatal(err)
			}
			opts.Mounts = append(opts.Mounts, m)
		}
		return SessionSpec(t.Context(), s, Made{Root: root}, &Project{Dir: project, Configured: true}, opts)
	}
	spec, err := session(dir, dir+":/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	hidden := map[string]bool{}
	for _, m := range spec.Mounts {
		if entries, err := os.ReadDir(m.Source); m.ReadOnly && err == nil && len(entries) == 0 {
			hidden[m.Target] = true
		}
	}
	if !hidden[s.Dir()] || !hidden["/elsewhere/.store"] {
		t.Errorf("the store can be seen: %+v", spec.Mounts)
	}
	trees := filepath.Join(s.Dir(), "trees")
	if err := os.MkdirAll(trees, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := session(trees); err == nil || !strings.Contains(err.Error(), "it is in the store") {
		t.Errorf("a project in the store: %v", err)
	}
	if _, err := session(t.TempDir(), s.Dir()+":/x"); err == nil || !strings.Contains(err.Error(), "it is in the store") {
		t.Errorf("the store itself: %v", err)
	}
	spec, err = session(t.TempDir(), dir+":/etc/hosts")
	if err != nil || slices.ContainsFunc(spec.Files, func(f runtime.File) bool { return f.Path == "/etc/hosts" }) {
		t.Errorf("what is asked for isn't shown: %v", err)
	}
}

func TestProjectIsNotShown(t *testing.T) {
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root := rootOf(t, map[string]string{"usr/share/doc/a": "", "var/log/b": ""})
	show := func(p *Project, dir string) (runtime.Spec, error) {
		plan := sessionPlan{SessionOptions: SessionOptions{Dir: dir}, project: p, root: root, store: s}
		err := plan.showProject()
		return plan.spec, err
	}
	for _, dir := range []string{"/usr/share/doc", "/var/log", "/srv/nothing"} {
		spec, err := show(&Project{Dir: dir}, dir)
		if shown := len(spec.Mounts) > 0; err != nil || shown != (dir == "/srv/nothing") {
			t.Errorf("%s, which nobody called a project: got %+v %v", dir, spec.Mounts, err)
		}
		if spec, err := show(&Project{Dir: dir, Configured: true}, ""); err != nil || len(spec.Mounts) != 1 {
			t.Errorf("project %s: got %+v %v", dir, spec.Mounts, err)
		}
	}
	for _, dir := range []string{"/", "/usr", "/etc"} {
		if spec, err := show(&Project{Dir: dir}, dir); err != nil || len(spec.Mounts) > 0 {
			t.Errorf("%s: got %+v %v", dir, spec.Mounts, err)
		}
		if _, err := show(&Project{Dir: dir, Configured: true}, ""); err == nil {
			t.Errorf("%s would hide the target's own", dir)
		}
	}
	home, err := homeDir()
	if err != nil {
		t.Fatal(err)
	}
	if spec, err := show(&Project{Dir: home}, ""); err != nil || len(spec.Mounts) > 0 {
		t.Errorf("the home folder is shown: %+v %v", spec.Mounts, err)
	}
}
