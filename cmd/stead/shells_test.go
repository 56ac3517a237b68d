package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime/enginetest"
)

// shells are packages with this machine's own shells, as it has them, and terminals
// that they know.
func shells(t *testing.T) []debPackage {
	t.Helper()
	p := debPackage{name: "shells", here: true, files: map[string]string{}}
	for _, name := range []string{"bash", "dash", "zsh", "fish", "busybox", "ls", "cat", "env", "stat", "rm", "mkdir", "id", "uname", "make"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("%v: see .ci/setup", err)
		}
		p.add(t, path, "/usr/bin/"+name)
		out, _ := exec.Command("ldd", path).Output() // static ones have none
		p.addLibraries(t, string(out))
	}
	p.files["/usr/bin/sh"], p.files["/usr/bin/ash"] = p.files["/usr/bin/dash"], p.files["/usr/bin/busybox"]
	modules, _ := filepath.Glob("/usr/lib/*/zsh")
	for _, dir := range append(modules, "/etc/zsh", "/usr/share/zsh/functions/Misc", "/usr/share/zsh/functions/Completion", "/usr/share/fish/functions",
		"/usr/share/fish/config.fish", "/usr/share/fish/__fish_build_paths.fish", "/lib/terminfo", "/etc/fish") {
		p.addTree(t, dir)
	}
	p.add(t, "/etc/bash.bashrc", "/etc/bash.bashrc")
	p.addDial(t)
	p.files["/etc/pki/pem/bundle.pem"] = "the target's own\n"
	p.files["/tmp/there"] = "fish needs the folder\n"
	return []debPackage{p}
}

func (p *debPackage) add(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	p.files[to] = string(content)
}

// dial is a static program that reaches what a session was given. As "dial socket
// PATH TEXT" it sends TEXT and prints the answer, as "dial x11" it opens the display.
const dial = `package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	if os.Args[1] == "socket" {
		c, err := net.Dial("unix", os.Args[2])
		check(err)
		c.Write([]byte(os.Args[3]))
		answer := make([]byte, 100)
		n, err := c.Read(answer)
		check(err)
		fmt.Printf("%q\n", answer[:n])
		return
	}
	auth, err := os.ReadFile(os.Getenv("XAUTHORITY"))
	check(err)
	var fields [][]byte
	for rest := auth[2:]; len(fields) < 4; {
		n := int(binary.BigEndian.Uint16(rest))
		fields, rest = append(fields, rest[2:2+n]), rest[2+n:]
	}
	number := strings.TrimPrefix(strings.Split(os.Getenv("DISPLAY"), ".")[0], ":")
	c, err := net.Dial("unix", "/tmp/.X11-unix/X"+number)
	check(err)
	name, data := fields[2], fields[3]
	hello := []byte{'l', 0, 11, 0, 0, 0, byte(len(name)), 0, byte(len(data)), 0, 0, 0}
	for _, f := range [][]byte{name, data} {
		hello = append(hello, f...)
		hello = append(hello, make([]byte, (4-len(f)%4)%4)...)
	}
	c.Write(hello)
	answer := make([]byte, 8)
	_, err = c.Read(answer)
	check(err)
	fmt.Println("x11", answer[0])
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
`

// addDial builds dial.
func (p *debPackage) addDial(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(dial), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "dial"), filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.add(t, filepath.Join(dir, "dial"), "/usr/bin/dial")
}

// addLibraries adds what ldd(1) named.
func (p *debPackage) addLibraries(t *testing.T, ldd string) {
	for word := range strings.FieldsSeq(ldd) {
		if strings.HasPrefix(word, "/") && p.files["/usr"+strings.TrimPrefix(word, "/usr")] == "" {
			p.add(t, word, "/usr"+strings.TrimPrefix(word, "/usr"))
		}
	}
}

func (p *debPackage) addTree(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			p.add(t, path, "/usr"+strings.TrimPrefix(path, "/usr"))
			if strings.HasPrefix(path, "/etc/") {
				delete(p.files, "/usr"+path)
				p.add(t, path, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// shellHost is a small host with shells, whose root folder is as installers make it
// since 2019.
func shellHost(t *testing.T) *small {
	s := newSmall(t, shells(t))
	for name, to := range map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64",
		"etc/pki/tls/certs/ca-bundle.crt": "/etc/pki/pem/bundle.pem", "etc/resolv.conf": "../run/resolve/stub.conf"} {
		path := filepath.Join(s.host, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(to, path)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// target takes a snapshot of the host under a name of its own, with root's account as
// it is in that line of passwd; without one there is no passwd.
func (s *small) target(name, passwd string) {
	s.t.Helper()
	s.write("host/etc/passwd", passwd)
	if passwd == "" {
		s.must(exec.Command("rm", s.path("host/etc/passwd")))
	}
	s.must(s.command("fleet", "store", "snapshot", s.host, name, "--yes"))
}

// terminal starts stead on a terminal.
func (s *small) terminal(env []string, args ...string) *enginetest.Terminal {
	s.t.Helper()
	cmd := s.command("fleet", "store", args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm-kitty", "SHELL=/usr/local/bin/zsh"), env...)
	return enginetest.StartTerminal(s.t, cmd, 24, 200)
}

// fedoraRC is how Fedora and its like make the prompt: ~/.bashrc reads a file of the
// system's, which sets PROMPT_COMMAND only where nobody did.
const fedoraRC = `[ "${PS1-}" ] || return 0
[ -n "${PROMPT_COMMAND-}" ] || PROMPT_COMMAND='printf title'
[ "$PS1" = "\\s-\\v\\\$ " ] && PS1="[\u@\h \W]\\$ "
`

// Every shell says where one is, with the user's own files read and left as they are.
func TestPrompts(t *testing.T) {
	t.Parallel()
	s := shellHost(t)
	root := func(shell string) string { return "root:x:0:0:root:/root:" + shell + "\n" }
	for _, test := range []struct {
		name, passwd string
		files        map[string]string // in the home
		prompt       string            // after the target
	}{
		{"bash", root("/bin/bash"), nil, "root@bash:"},
		{"bash-rc", root("/bin/bash"), map[string]string{".bashrc": "PS1='own> '; MARK=read\n"}, "own> "},
		{"bash-theme", root("/bin/bash"), map[string]string{".bashrc": "PROMPT_COMMAND='PS1=\"theme> \";'; MARK=read\n"}, "theme> "},
		{"bash-array", root("/bin/bash"), map[string]string{".bashrc": "theme() { PS1='array> '; }; PROMPT_COMMAND=(: theme); MARK=read\n"}, "array> "},
		{"bash-fedora", root("/bin/bash"), map[string]string{".bashrc": fedoraRC + "MARK=read\n"}, ""},
		{"dash", root("/bin/dash"), nil, "# "},
		{"busybox", root("/bin/ash"), nil, ""},
		{"zsh", root("/bin/zsh"), nil, "zsh# "},
		{"zsh-rc", root("/usr/bin/zsh"), map[string]string{".zshenv": "MARK=re", ".zshrc": "MARK+=ad; PROMPT='own> '\n"}, "own> "},
		{"zsh-theme", root("/bin/zsh"), map[string]string{".zshrc": "MARK=read; precmd_functions+=(theme); theme() { PROMPT='theme> ' }\n"}, "theme> "},
		{"zsh-elsewhere", root("/bin/zsh"), map[string]string{".zshenv": "ZDOTDIR=~/z", "z/.zshrc": "MARK=read PROMPT='z> '\n"}, "z> "},
		{"fish", root("/bin/fish"), nil, "\x1b[92mroot"},
		{"fish-rc", root("/bin/fish"), map[string]string{".config/fish/config.fish": "set MARK read; function fish_prompt; echo 'own> '; end\n"}, "own> "},
		{"own-shell", "", map[string]string{".zshrc": "MARK=read\n"}, "own-shell# "},
	} {
		s.in(t, test.name, func(s *small) {
			s.target(test.name, test.passwd)
			for name, text := range test.files {
				s.write("store/homes/"+test.name+"/"+name, text)
			}
			prompt := "(" + test.name + ") " + test.prompt
			term := s.terminal(nil, "enter", test.name)
			term.Expect(prompt)
			status := "$?"
			if strings.HasPrefix(test.name, "fish") {
				status = "$status"
			}
			term.Write("sh -c 'exit 3'\r")
			term.Expect(prompt)
			term.Write("echo status=" + status + " mark=\"$MARK\".\r")
			mark := "mark=."
			if len(test.files) > 0 {
				mark = "mark=read."
			}
			term.Expect("status=3 " + mark)
			term.Expect(prompt)
			term.Write("dash\r")
			term.Expect("(" + test.name + ") # ")
			if test.files[".bashrc"] == "" { // which may undo what a bash of its own has no file for
				term.Write("bash\r")
				term.Expect("(" + test.name + ") root@")
				term.Write("exit\r")
				term.Expect("(" + test.name + ") # ")
			}
			term.Write("exit\r")
			term.Expect(prompt)
			term.Write("exit 7\r")
			term.Exit(7)
			for name, text := range test.files {
				if now, err := os.ReadFile(s.path("store/homes", test.name, name)); err != nil || string(now) != text {
					t.Errorf("%s became %q, %v", name, now, err)
				}
			}
		})
	}
}
