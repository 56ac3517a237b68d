package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFormat(t *testing.T) {
	root := t.TempDir()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sh"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(handlers); len(entries) > 2 {
		t.Skip("this kernel executes other formats too")
	}
	for name, test := range map[string]struct {
		content string
		code    int
	}{
		"script":      {"#! /sh -e\ntrue\n", 0},
		"no-shell":    {"#!/no/such\n", CodeNotFound},
		"no-name":     {"#!\n", CodeNotExecutable},
		"plain":       {"echo hello\n", CodeNotExecutable},
		"empty":       {"", CodeNotExecutable},
		"short":       {"\x7fELF", CodeNotExecutable},
		"program":     {string(program), 0},
		"odd-program": {string(program[:100]), 0}, // for the kernel to judge
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(test.content), 0o755); err != nil {
			t.Fatal(err)
		}
		err := Lookup(Spec{Name: "acme@1", Command: []string{"/" + name}}, root)
		code := 0
		if err != nil {
			code = ExitCode(err)
		}
		if code != test.code && !(name == "program" && code == CodeNotFound) { // linked to a loader
			t.Errorf("%s: got %d (%v), want %d", name, code, err, test.code)
		}
	}
}

func TestLookupOfNothing(t *testing.T) {
	err := Lookup(Spec{Name: "acme@1", Command: []string{""}}, t.TempDir())
	if err == nil || ExitCode(err) != CodeNotFound || err.Error() != "executing the command: its name is empty" {
		t.Errorf("got %v", err)
	}
}
