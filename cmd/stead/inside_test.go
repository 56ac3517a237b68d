package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// inside is a session's command with a configuration of its own.
type inside struct {
	*small
	project string   // stead.toml
	user    string   // config.toml
	env     []string // of the developer
}

// run runs a shell script in a session.
func (i inside) run(script string, flags ...string) (stdout, stderr string, code int) {
	i.t.Helper()
	return result(i.session(append(append([]string{"run"}, flags...), "acme", "--", "sh", "-c", script)...))
}

func (i inside) session(args ...string) *exec.Cmd {
	i.t.Helper()
	i.write("project/stead.toml", i.project)
	i.write("config/stead/config.toml", i.user)
	cmd := i.command("fleet", "store", args...)
	cmd.Env = append(append(cmd.Env, "XDG_CONFIG_HOME="+i.path("config"), "HOME="+i.path("home")), i.env...)
	return cmd
}

// gives wants a script to succeed and to write that.
func (i inside) gives(want, script string, flags ...string) {
	i.t.Helper()
	if out, errs, code := i.run(script, flags...); code != 0 || strings.TrimSuffix(out, "\n") != want {
		i.t.Errorf("%s: code %d, %q instead of %q; stderr %q", script, code, out, want, errs)
	}
}

// TestInside looks at what a session contains, from within.
func TestInside(t *testing.T) {
	t.Parallel()
	s := shellHost(t)
	s.target("acme", "root:x:0:0:root:/root:/bin/sh\n")
	for _, test := range []struct {
		name string
		run  func(i inside)
	}{
		{"variables", insideVariables}, {"settings", insideSettings}, {"mounts", insideMounts}, {"network", insideNetwork},
		{"devices", insideDevices}, {"x11", insideX11}, {"wayland", insideWayland}, {"agent", insideAgent},
		{"changes", insideChanges}, {"build", insideBuild},
		{"builds", insideBuilds}, {"verdicts", insideVerdicts},
	} {
		s.in(t, test.name, func(s *small) { test.run(inside{small: s}) })
	}
}

func insideVariables(i inside) {
	const odd = "a 'b' \"c\" $HOME `id` \\ \n second line \t\x01 é %s"
	i.project = "[env.variables]\nODD = " + strconv.Quote(odd) + "\nEMPTY = \"\"\nBOTH = \"project\"\n"
	i.env = []string{"FROM_HERE=" + odd, "SECRET=s"}
	i.gives(odd, `printf %s "$ODD"`)
	i.gives(odd, `printf %s "$FROM_HERE"`, "--env", "FROM_HERE")
	i.gives(odd, `printf %s "$X"`, "--env", "X="+odd)
	i.gives("set flag unset", `echo "${EMPTY+set}$EMPTY $BOTH ${SECRET-unset}"`, "--env", "BOTH=flag")
}

func insideSettings(i inside) {
	const devices = `n=0; while read -r line; do n=$((n+1)); done </proc/net/dev; [ $n = 3 ] && echo offline || echo online`
	i.gives("online", devices)
	i.project = "[env]\nnetwork = \"none\"\nhome = \"none\"\n"
	i.gives("offline", devices)
	i.gives("online", devices, "--network", "host")
	i.gives("", "echo x >~/kept")
	i.gives("gone", "[ -e ~/kept ] || echo gone")
	i.gives("", "echo x >~/kept", "--home", "private")
	i.gives("kept", "[ -e ~/kept ] && echo kept", "--home", "private")
	i.project, i.user = "[target.acme.env]\nnetwork = \"none\"\n[env]\nnetwork = \"host\"\n", "[env]\nnetwork = \"host\"\nvariables = { MINE = \"yes\" }\n"
	i.gives("offline", devices)
	i.gives("yes", "echo $MINE")
	i.project, i.user = "", "[env]\nnetwork = \"none\"\n"
	i.gives("offline", devices)
}

func insideMounts(i inside) {
	i.write("data/file", "data\n")
	i.write("home/in/home", "home\n")
	i.write("data/odd:name", "odd\n")
	i.project = `[env]
mounts = ["../data:/srv/data:ro", "~/in:~/there", '../data/odd\:name:/srv/odd\:name', "../data/file:/etc/lib03.conf"]
`
	i.gives("data\nhome\nodd\ndata", "cat /srv/data/file ~/there/home /srv/odd:name /etc/lib03.conf")
	i.gives("read-only", "echo x 2>/dev/null >/srv/data/new || echo read-only")
	i.gives("data", "cat /srv/data/file", "--mount", i.path("data")+":/srv/data")
	i.write("vanishing/file", "x")
	i.project = "[env]\nmounts = [\"../vanishing\"]\n"
	i.gives("file", "ls "+i.path("vanishing"))
	i.remove("vanishing")
	if _, errs, code := i.run("true"); code != 125 || !strings.Contains(errs, "error: mounting "+i.path("vanishing")+": no such file or directory\n") {
		i.t.Errorf("code %d, %s", code, errs)
	}
}

func insideNetwork(i inside) {
	i.write("own.pem", "the developer's\n")
	i.env = []string{"SSL_CERT_FILE=" + i.path("own.pem"), "https_proxy=http://proxy.example:3128"}
	const look = "cat /etc/pki/tls/certs/ca-bundle.crt; echo $SSL_CERT_FILE $https_proxy"
	i.gives("the developer's\n/etc/pki/pem/bundle.pem http://proxy.example:3128", look)
	i.gives("the target's own\n", look, "--network", "none")
	i.user = "[env]\ncertificates = \"target\"\n"
	i.gives("the target's own\nhttp://proxy.example:3128", look)
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		i.t.Skip(err)
	}
	i.gives(strings.TrimSuffix(string(own), "\n"), "cat /run/resolve/stub.conf")
	i.gives("nothing", "[ -e /etc/resolv.conf ] || echo nothing", "--network", "none")
}

func insideDevices(i inside) {
	device := ""
	for _, name := range []string{"/dev/fuse", "/dev/loop-control", "/dev/net/tun"} {
		if f, err := os.Open(name); err == nil {
			f.Close()
			device = name
			break
		}
	}
	if device == "" {
		i.t.Skip("this machine has no device that sessions don't have")
	}
	info := strings.Fields(i.must(exec.Command("stat", "-Lc", "0x%t 0x%T", device)))
	open := "(exec 3<" + device + ") 2>/dev/null && echo opened || echo not there"
	forge := fmt.Sprintf("busybox mknod /tmp/forged c $((%s)) $((%s)); (exec 3</tmp/forged) 2>/dev/null && echo opened || echo refused", info[0], info[1])
	i.gives("not there", open)
	i.gives("refused", forge)
	i.gives("opened", open, "--device", device)
	i.project = "[env]\ndevices = [\"" + device + "\"]\n"
	i.gives("opened", open)
	i.gives("opened", forge)
	i.project = "[env]\ndevices = [\"/etc/passwd\"]\n"
	if _, errs, code := i.run("true"); code != 125 || !strings.Contains(errs, "showing device /etc/passwd: it is no device") {
		i.t.Errorf("code %d, %s", code, errs)
	}
}

func insideX11(i inside) {
	for _, name := range []string{"Xvfb", "xauth"} {
		if _, err := exec.LookPath(name); err != nil {
			i.t.Skipf("%v: see .ci/setup", err)
		}
	}
	i.write("home/.Xauthority", "")
	r, w, err := os.Pipe()
	if err != nil {
		i.t.Fatal(err)
	}
	defer r.Close()
	server := exec.Command("Xvfb", "-displayfd", "3", "-nolisten", "tcp", "-auth", i.path("server-auth"), "-screen", "0", "64x64x24")
	server.ExtraFiles = []*os.File{w}
	i.must(exec.Command("xauth", "-f", i.path("server-auth"), "add", ":0", ".", strings.Repeat("5a", 16)))
	if err := server.Start(); err != nil {
		i.t.Fatal(err)
	}
	defer server.Wait()         //nolint:errcheck // it is killed
	defer server.Process.Kill() //nolint:errcheck // it may be gone
	w.Close()
	line := make([]byte, 16)
	n, err := r.Read(line)
	if err != nil {
		i.t.Fatalf("Xvfb: %v", err)
	}
	display := ":" + strings.TrimSpace(string(line[:n]))
	i.must(exec.Command("xauth", "-f", i.path("home/.Xauthority"), "add", "elsewhere/unix:77", ".", strings.Repeat("00", 16)))
	i.must(exec.Command("xauth", "-f", i.path("home/.Xauthority"), "add", display, ".", strings.Repeat("5a", 16)))
	i.env = []string{"DISPLAY=" + display + ".0", "XAUTHORITY=", "WAYLAND_DISPLAY="}
	i.gives("x11 1", "dial x11", "--display")
	i.gives("x11 1", "dial x11", "--display", "--network", "none")
	i.user = "[env]\ndisplay = true\n"
	i.gives("x11 1", "dial x11")
	i.gives("none", "echo ${DISPLAY-none}", "--display=false")
	i.gives("read-only", "(echo x >>$XAUTHORITY) 2>/dev/null || echo read-only")
	i.env[0] = "DISPLAY=:9999"
	if _, errs, code := i.run("true"); code != 125 || !strings.Contains(errs, "no X server listens on /tmp/.X11-unix/X9999\nhint: ") {
		i.t.Errorf("code %d, %s", code, errs)
	}
	i.env[0] = "DISPLAY="
	if _, errs, code := i.run("true"); code != 125 || !strings.Contains(errs, "neither DISPLAY nor WAYLAND_DISPLAY names one\nhint: ") {
		i.t.Errorf("code %d, %s", code, errs)
	}
}

// answering listens on a socket and answers all that is said with what was said.
func (i inside) answering(name string) string {
	i.t.Helper()
	path := filepath.Join(i.t.TempDir(), name)
	l, err := net.Listen("unix", path)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			said := make([]byte, 100)
			n, _ := c.Read(said)
			fmt.Fprintf(c, "you said %s", said[:n])
			c.Close()
		}
	}()
	return path
}

func insideWayland(i inside) {
	socket := i.answering("wayland-7")
	const ask = `dial socket $XDG_RUNTIME_DIR/$WAYLAND_DISPLAY hello; stat -c %a:%u $XDG_RUNTIME_DIR; echo x >$XDG_RUNTIME_DIR/new`
	i.env = []string{"DISPLAY=", "WAYLAND_DISPLAY=wayland-7", "XDG_RUNTIME_DIR=" + filepath.Dir(socket)}
	i.gives("\"you said hello\"\n700:0", ask, "--display")
	i.env = []string{"DISPLAY=", "WAYLAND_DISPLAY=" + socket, "XDG_RUNTIME_DIR="}
	i.gives("\"you said hello\"\n700:0", ask, "--display", "--network", "none")
	i.gives("none", "echo ${WAYLAND_DISPLAY-none}")
}

func insideAgent(i inside) {
	const ask = `dial socket ${SSH_AUTH_SOCK:-/none} hello`
	i.env = []string{"SSH_AUTH_SOCK=" + i.answering("agent")}
	if out, _, code := i.run(ask); code == 0 {
		i.t.Errorf("without being told to, the agent was given: %s", out)
	}
	i.user = "ssh-agent = true\n"
	i.gives(`"you said hello"`, ask)
	i.env = []string{"SSH_AUTH_SOCK=/nowhere"}
	i.gives("", "echo $SSH_AUTH_SOCK")
}

func insideChanges(i inside) {
	enter := func(script string) string {
		cmd := i.session("enter", "acme")
		cmd.Stdin = strings.NewReader(script)
		_, errs, _ := result(cmd)
		return errs
	}
	if errs := enter("echo x >/etc/new; rm -r /usr/share/lib03; echo x >~/mine; echo x >ours\n"); !strings.HasSuffix(errs,
		"13 files outside the project were changed and are gone (stead enter --session NAME keeps them)\n") {
		i.t.Errorf("got %q", errs)
	}
	if errs := enter("echo x >/etc/new\n"); !strings.HasSuffix(errs, "1 file outside the project was changed and is gone (stead enter --session NAME keeps it)\n") {
		i.t.Errorf("got %q", errs)
	}
	if errs := enter("echo x >~/mine\n"); errs != "" {
		i.t.Errorf("got %q", errs)
	}
	if _, errs, _ := i.run("echo x >/etc/new"); errs != "" {
		i.t.Errorf("a script reads %q", errs)
	}
	term := i.terminal(nil, "run", "acme", "--", "sh", "-c", "echo x >/etc/new")
	term.Expect("1 file outside the project was changed and is gone")
	term.Exit(0)
}

// What a project's sessions have its builds have too, but for what is for people.
func insideBuild(i inside) {
	i.write("data/file", "data\n")
	i.project = `targets = ["acme"]
[env]
network = "host"
home = "shared"
display = true
mounts = ["../data:/srv/data:ro"]
variables = { FLAGS = "-O2" }
[build]
command = ["sh", "-c", "cat /srv/data/file; echo $FLAGS ${MINE-no} $SHELL ${SSH_AUTH_SOCK-no}; echo x >~/x; while read -r l; do echo $l; done </proc/net/dev"]
artifacts = ["none*"]
`
	i.user, i.env = "ssh-agent = true\n[env]\nvariables = { MINE = \"yes\" }\n", []string{"SSH_AUTH_SOCK=" + i.answering("agent"), "SHELL=/bin/zsh"}
	_, errs, _ := result(i.session("build", "acme"))
	if !strings.Contains(errs, "data\n-O2 no /bin/sh no\n") || !strings.Contains(errs, "\nlo: ") || strings.Contains(errs, "eth") {
		i.t.Errorf("the build said %s", errs)
	}
	if _, err := os.Stat(i.path("home/x")); err == nil {
		i.t.Error("a build has the user's own home")
	}
}
