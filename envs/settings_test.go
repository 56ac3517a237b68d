package envs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime"
)

func TestParseMount(t *testing.T) {
	home, err := homeDir()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]runtime.Mount{
		"/a":            {Source: "/a", Target: "/a"},
		"/a:ro":         {Source: "/a", Target: "/a", ReadOnly: true},
		"/a/../c/:/b/":  {Source: "/c", Target: "/b"},
		"/a:/b:rw":      {Source: "/a", Target: "/b"},
		"/a:/b:ro":      {Source: "/a", Target: "/b", ReadOnly: true},
		"x/y:/b":        {Source: "/work/x/y", Target: "/b"},
		"..":            {Source: "/", Target: "/"},
		".":             {Source: "/work", Target: "/work"},
		"~":             {Source: home, Target: home},
		"~/.m2":         {Source: home + "/.m2", Target: home + "/.m2"},
		"~/.m2:~/.m2":   {Source: home + "/.m2", Target: "/home/inside/.m2"},
		"~other:/b":     {Source: "/work/~other", Target: "/b"},
		`/a\:b:/c\:d`:   {Source: "/a:b", Target: "/c:d"},
		`/a\\:/b`:       {Source: `/a\`, Target: "/b"},
		`/a\b:/c`:       {Source: `/a\b`, Target: "/c"},
		"/a b\n:/c":     {Source: "/a b\n", Target: "/c"},
		"ro:/b":         {Source: "/work/ro", Target: "/b"},
		"/a:/b/../../c": {Source: "/a", Target: "/c"},
	} {
		m, err := ParseMount(text, "/work")
		if got := m.inside("/home/inside"); err != nil || got != want {
			t.Errorf("%q: got %+v %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":/b", "/a:b", "/a:/b:/c", "/a:", "/a:/b:wo", "/a\x00:/b", ":ro"} {
		if m, err := ParseMount(text, "/work"); err == nil {
			t.Errorf("%q: got %+v", text, m)
		}
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add("~/a\\:b:/c:ro")
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMount(text, "/work")
		if err != nil {
			return
		}
		if in := m.inside("/root"); !filepath.IsAbs(in.Source) || !filepath.IsAbs(in.Target) || filepath.Clean(in.Target) != in.Target {
			t.Fatalf("%q became %+v", text, in)
		}
	})
}

// Flags win over the target's settings, those over the project's, those over the user's.
func TestSettings(t *testing.T) {
	p := testProject(t, `
[env]
network = "none"
home = "none"
mounts = ["data:/data"]
devices = ["/dev/a"]
variables = { A = "project", B = "project", C = "project" }
[target.acme.env]
home = "shared"
mounts = ["other:/data"]
variables = { A = "target", B = "target" }
`)
	no := false
	user := UserConfig{Env: Settings{Network: "host", Home: "private", Kernel: OfTarget, Root: &yes, Display: &yes,
		Mounts: []Mount{{Mount: runtime.Mount{Source: "/u", Target: "/u"}}}, Variables: map[string]string{"A": "user", "D": "user"}}}
	got := p.Settings("acme", user, Settings{Root: &no, Devices: []string{"/dev/b"}, Variables: map[string]string{"A": "flag"}})
	if got.Network != "none" || got.Home != "shared" || got.Kernel != OfTarget || isSet(got.Root) || !isSet(got.Display) || got.Certificates != Own {
		t.Errorf("got %+v", got)
	}
	if want := map[string]string{"A": "flag", "B": "target", "C": "project", "D": "user"}; !reflect.DeepEqual(got.Variables, want) {
		t.Errorf("got %v", got.Variables)
	}
	if len(got.Mounts) != 2 || got.Mounts[0].Source != "/u" || got.Mounts[1].Source != filepath.Join(p.Dir, "other") {
		t.Errorf("got %+v", got.Mounts)
	}
	if !reflect.DeepEqual(got.Devices, []string{"/dev/a", "/dev/b"}) {
		t.Errorf("got %v", got.Devices)
	}
	if got := (&Project{}).Settings("acme", UserConfig{}, Settings{}); got.Network != runtime.NetworkHost || got.Home != HomePrivate {
		t.Errorf("nobody chose: got %+v", got)
	}
	// A build is nobody's in particular, and for no person.
	build := buildSettings(p, "acme", user)
	if build.Home != "" || build.Root != nil || build.Display != nil || build.Variables["D"] != "" || build.Variables["B"] != "target" || len(build.Mounts) != 1 {
		t.Errorf("a build has %+v", build)
	}
}

func TestUserConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	if c, err := ReadUserConfig(); err != nil || !reflect.DeepEqual(c, UserConfig{}) {
		t.Errorf("none: got %+v %v", c, err)
	}
	path := filepath.Join(dir, "stead", "config.toml")
	read := func(text string) (UserConfig, error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return ReadUserConfig()
	}
	c, err := read("engine = \"embedded\"\nssh-agent = true\n[env]\nnetwork = \"none\"\nmounts = [\"/a:/b:ro\"]\n")
	if err != nil || c.Engine != "embedded" || !c.SSHAgent || c.Env.Network != "none" || c.Env.Mounts[0].Target != "/b" {
		t.Errorf("got %+v %v", c, err)
	}
	for text, want := range map[string]string{
		"[env]\nssh-agent = true":          path + `:2: unknown key "env.ssh-agent"`,
		"agent = true":                     path + `:1: unknown key "agent"`,
		"[env]\n\nmounts = [\"a:/b\"]":     path + `:3: env.mounts has "a:/b", which is relative to nothing`,
		"[env]\nhome = \"sweet\"":          path + `:2: env.home is private, shared or none, not "sweet"`,
		"[env]\nmounts = [\"/a\", \"::\"]": path + ":2: ",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", filepath.Dir(filepath.Dir(path)))
	if got, err := userConfigFile(); err != nil || !strings.HasSuffix(got, ".config/stead/config.toml") {
		t.Errorf("got %s %v", got, err)
	}
}
