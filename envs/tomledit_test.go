package envs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

func TestEditTools(t *testing.T) {
	for name, test := range map[string]struct {
		before, target string
		tools          []string
		after          string
	}{
		"one line": {"tools = [\"gcc\", \"make\"] # ours\n", "", []string{"gcc", "make", "cmake"},
			"tools = [\"gcc\", \"make\", \"cmake\"] # ours\n"},
		"one line, a comma at the end": {"tools = [\"gcc\",]", "", []string{"gcc", "make"}, "tools = [\"gcc\", \"make\"]"},
		"an empty list":                {"tools = [ ]\n", "", []string{"gcc"}, "tools = [\"gcc\"]\n"},
		"lines": {"tools = [\n\t\"gcc\", # the compiler\n\t\"make\" # and this\n]\n[build]\n", "", []string{"gcc", "make", "cmake"},
			"tools = [\n\t\"gcc\", # the compiler\n\t\"make\", # and this\n\t\"cmake\",\n]\n[build]\n"},
		"one of several lines leaves": {"tools = [\n\t\"gcc\", # the compiler\n\t\"make\",\n]\n", "", []string{"make"},
			"tools = [\n\t\"make\",\n]\n"},
		"one of a line leaves":  {"tools = [\"gcc\", \"make\", \"cmake\"]\n", "", []string{"gcc", "cmake"}, "tools = [\"gcc\", \"cmake\"]\n"},
		"the last leaves":       {"tools = [\"gcc\", \"make\"]\n", "", []string{"gcc"}, "tools = [\"gcc\"]\n"},
		"the only one leaves":   {"tools = ['gcc']\n", "", []string{}, "tools = []\n"},
		"an empty one in lines": {"tools = [\n]\n", "", []string{"gcc"}, "tools = [\n  \"gcc\",\n]\n"},
		"none yet": {"# ours\nfleet = \"../fleet\" # there\ntargets = [\n  \"acme\", # ]\n]\n\n[build]\ncommand = [\"make\"]\n", "",
			[]string{"gcc"},
			"# ours\nfleet = \"../fleet\" # there\ntargets = [\n  \"acme\", # ]\n]\ntools = [\"gcc\"]\n\n[build]\ncommand = [\"make\"]\n"},
		"none yet, and no line before a table": {"# ours\n[build]\ncommand = [\"make\"]\n", "", []string{"gcc"},
			"# ours\ntools = [\"gcc\"]\n[build]\ncommand = [\"make\"]\n"},
		"an empty file": {"", "", []string{"gcc"}, "tools = [\"gcc\"]\n"},
		"a target": {"tools = [\"gcc\"]\n[target.acme] # old\ncommand = [\"make\"]\n[target.globex]\n", "acme", []string{"gcc", "gdb"},
			"tools = [\"gcc\"]\n[target.acme] # old\ntools = [\"gcc\", \"gdb\"]\ncommand = [\"make\"]\n[target.globex]\n"},
		"a target's own": {"[target.acme]\ntools = [\"gcc\"]\n", "acme", []string{"gcc", "gdb"}, "[target.acme]\ntools = [\"gcc\", \"gdb\"]\n"},
		"a target that has no table": {"targets = [\"acme\"]", "acme", []string{"gcc"},
			"targets = [\"acme\"]\n\n[target.acme]\ntools = [\"gcc\"]\n"},
		"a target with a table below": {"[target.acme.env]\nroot = true\n", "acme", []string{"gcc"},
			"[target.acme.env]\nroot = true\n\n[target.acme]\ntools = [\"gcc\"]\n"},
		"a target with dotted keys": {"target.acme.command = [\"make\"]\n", "acme", []string{"gcc"},
			"target.acme.command = [\"make\"]\ntarget.acme.tools = [\"gcc\"]\n"},
		"a target with a dot": {"", "acme.example", []string{"gcc"}, "\n[target.\"acme.example\"]\ntools = [\"gcc\"]\n"},
		"strings": {"targets = [\"a\", 'b']\n[env.variables]\nA = \"\"\"\n[target.acme]\n\"\"\"\nB = '''x'''\n", "acme", []string{"gcc"},
			"targets = [\"a\", 'b']\n[env.variables]\nA = \"\"\"\n[target.acme]\n\"\"\"\nB = '''x'''\n\n[target.acme]\ntools = [\"gcc\"]\n"},
	} {
		got, err := editTools(ProjectFile, []byte(test.before), test.target, test.tools)
		if err != nil || string(got) != test.after {
			t.Errorf("%s: got %v\n%s\nwant\n%s", name, err, got, test.after)
		}
	}
	// What other systems' editors write stays.
	for before, after := range map[string]string{
		"targets = [\"acme\"]\r\n[build]\r\n":                 "targets = [\"acme\"]\r\ntools = [\"gcc\"]\r\n[build]\r\n",
		"tools = [\r\n  \"make\",\r\n]\r\n":                   "tools = [\r\n  \"gcc\",\r\n]\r\n",
		"\ufeffversion = 1\n":                                 "",
		"\ufefftargets = [\"acme\"]\n":                        "\ufefftargets = [\"acme\"]\ntools = [\"gcc\"]\n",
		"\ufefftools = []\r\n[env.variables]\r\nA = \"\"\r\n": "\ufefftools = [\"gcc\"]\r\n[env.variables]\r\nA = \"\"\r\n",
	} {
		got, err := editTools(ProjectFile, []byte(before), "", []string{"gcc"})
		if string(got) != after || (err == nil) != (after != "") {
			t.Errorf("%q became %q, not %q: %v", before, got, after, err)
		}
	}
	for _, text := range []string{"target = { acme = { command = [\"make\"] } }\n", "[target]\nacme = { command = [\"make\"] }\n"} {
		var edit *EditError
		if got, err := editTools(ProjectFile, []byte(text), "acme", []string{"gcc"}); !errors.As(err, &edit) || edit.Hint() == "" {
			t.Errorf("%q: got %s %v", text, got, err)
		}
	}
}

// A file that is a link, or has a mode and owner of its own, keeps that.
func TestWriteOver(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "shared.toml"), filepath.Join(dir, ProjectFile)
	if err := errors.Join(os.WriteFile(real, []byte("tools = []\n"), 0o600), os.Symlink("shared.toml", link)); err != nil {
		t.Fatal(err)
	}
	p, err := OpenProject(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o600, 0o444, 0o664} {
		if err := os.Chmod(real, mode); err != nil {
			t.Fatal(err)
		}
		uid := os.Geteuid()
		if uid == 0 {
			uid = 4711
			if err := os.Chown(real, uid, uid); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.writeTools("", []string{"gcc"}); err != nil {
			t.Fatal(err)
		}
		at, err := os.Readlink(link)
		fi, statErr := os.Stat(link)
		if err := errors.Join(err, statErr); err != nil || at != "shared.toml" {
			t.Fatalf("stead.toml is no link any more: %q %v", at, err)
		}
		if st := fi.Sys().(*syscall.Stat_t); fi.Mode() != mode || int(st.Uid) != uid {
			t.Errorf("the file has mode %v and owner %d, not %v and %d", fi.Mode(), st.Uid, mode, uid)
		}
	}
	if text, err := os.ReadFile(real); err != nil || string(text) != "tools = [\"gcc\"]\n" {
		t.Errorf("it is %q %v", text, err)
	}
	if err := os.Remove(real); err != nil {
		t.Fatal(err)
	}
	if err := writeOver(link, nil, 0o644); err == nil || !strings.Contains(err.Error(), "a link to nothing") {
		t.Errorf("got %v", err)
	}
	if err := writeOver(filepath.Join(dir, "new"), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
}

// Whatever people write, an edit does what was asked or says that it can't.
func FuzzEditTools(f *testing.F) {
	f.Add("tools = [\n  \"a\", # x\n 'b'\n]\n[target.acme]\n", "acme")
	f.Add("target.acme.tools = []\ntargets=[\"acme\"]", "")
	f.Add("[[x]]\n[target.\"acme\"]\ntools=[\"a\",]", "acme")
	f.Fuzz(func(t *testing.T, text, target string) {
		if target != "" && CheckName(target) != nil {
			return
		}
		want := []string{"a", "c"}
		got, err := editTools(ProjectFile, []byte(text), target, want)
		if err != nil {
			return
		}
		var c ProjectConfig
		if err := decodeText(ProjectFile, got, &c); err != nil {
			t.Fatalf("%q became %q: %v", text, got, err)
		}
		_, tools, _ := c.For(target)
		if !reflect.DeepEqual(tools, want) {
			t.Errorf("%q became %q", text, got)
		}
	})
}
