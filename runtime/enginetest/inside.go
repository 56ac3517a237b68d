package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stead-env/stead/runtime"
)

func (s *suite) streams(t *testing.T) {
	stdout, stderr, _ := s.output(t, s.spec("bash", "-c", "echo out; echo err >&2"))
	if stdout != "out\n" || stderr != "err\n" {
		t.Errorf("standard output %q, standard error %q", stdout, stderr)
	}
	const size = 64 << 20
	var out bytes.Buffer
	in := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	res, err := s.engine.Run(t.Context(), s.spec("cat"), runtime.Stdio{In: bytes.NewReader(in), Out: &out})
	if err != nil || res.ExitCode != 0 || !bytes.Equal(out.Bytes(), in) {
		t.Errorf("64 MB through cat: %v, exit code %d, %d bytes came back", err, res.ExitCode, out.Len())
	}
	// A reader that never ends must not keep the session.
	r, w := io.Pipe()
	defer w.Close()
	if res, err := s.engine.Run(t.Context(), s.spec("true"), runtime.Stdio{In: r}); err != nil || res.ExitCode != 0 {
		t.Errorf("with an idle standard input: %v, exit code %d", err, res.ExitCode)
	}
}

func (s *suite) process(t *testing.T) {
	spec := s.spec()
	value := "a 'b' \"c\" $HOME `id` \\ \n second line \t\x01 é"
	spec.Env = append(spec.Env, "ODD="+value)
	if got := s.shell(t, spec, `printf %s "$ODD"`); got != value {
		t.Errorf("environment value %q, want %q", got, value)
	}
	spec = s.spec()
	spec.Umask, spec.NoFile = 0o027, 777
	spec.Dir, spec.Hostname = "/tmp", "globex"
	script, want := `umask; ulimit -Sn; pwd`, "0027\n777\n/tmp"
	if !s.options.NoNamespaces {
		script, want = script+"; cat /proc/sys/kernel/hostname", want+"\nglobex"
	}
	if got := s.shell(t, spec, script); got != want {
		t.Errorf("umask, open files, folder, host name: %q, want %q", got, want)
	}
	s.users(t)
	spec = s.spec()
	spec.NoFile = 1 << 40
	s.shell(t, spec, "true")
	want = "seccomp filter, pid above 1"
	if s.options.NoSeccomp {
		want = "pid above 1"
	}
	if got := s.shell(t, s.spec(), `grep -q 'Seccomp:.*2' /proc/self/status && echo -n 'seccomp filter, '; [ $$ -gt 1 ] && echo pid above 1`); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// users has sessions of several users, who own what they make.
func (s *suite) users(t *testing.T) {
	const script = `id -u; id -g; id -G; touch /tmp/x; stat -c %u:%g /tmp/x`
	spec := s.spec()
	spec.UID, spec.GID, spec.Groups = 1234, 2345, []uint32{7, 8}
	if s.options.OneUser {
		spec.Command = []string{"true"}
		_, err := s.engine.Run(t.Context(), spec, runtime.Stdio{})
		if hint, ok := err.(interface{ Hint() string }); !ok || hint.Hint() == "" {
			t.Errorf("a session of a user who can't be had: %v, want an error with a hint", err)
		}
	} else if got := s.shell(t, spec, script); got != "1234\n2345\n2345 7 8\n1234:2345" {
		t.Errorf("ids: %q", got)
	}
	outside := t.TempDir()
	for _, id := range []uint32{0, uint32(os.Getuid())} {
		spec := s.spec()
		spec.UID, spec.GID = id, id
		spec.Mounts = []runtime.Mount{{Source: outside, Target: "/srv/project"}}
		if got, want := s.shell(t, spec, script), fmt.Sprintf("%d\n%[1]d\n%[1]d\n%[1]d:%[1]d", id); got != want {
			t.Errorf("ids: %q, want %q", got, want)
		}
		s.shell(t, spec, fmt.Sprintf("mkdir /srv/project/%d; echo x >/srv/project/%[1]d/x", id))
		info, err := os.Stat(filepath.Join(outside, fmt.Sprint(id), "x"))
		must(t, err)
		if st := info.Sys().(*syscall.Stat_t); st.Uid != uint32(os.Getuid()) || st.Gid != uint32(os.Getgid()) {
			t.Errorf("what uid %d made in the project belongs to %d:%d", id, st.Uid, st.Gid)
		}
	}
}

func (s *suite) mounts(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "file"), "old\n")
	spec := s.spec()
	spec.Dir = "/home/dev/project"
	spec.Mounts = []runtime.Mount{
		{Source: outside, Target: "/home/dev/project"},
		{Source: outside, Target: "/srv/ro", ReadOnly: true},
		{Source: filepath.Join(outside, "file"), Target: "/srv/one", ReadOnly: true},
	}
	spec.Files = []runtime.File{{Path: "/etc/resolv.conf", Content: []byte("nameserver 192.0.2.1\n")}}
	got := s.shell(t, spec, `cat file /srv/one /etc/resolv.conf; echo new >made
		(echo x >/srv/ro/no) 2>/dev/null || echo ro; (echo x >/srv/one) 2>/dev/null || echo ro
		(echo x >/etc/resolv.conf) 2>/dev/null || echo ro; stat -c %a /home/dev`)
	want := "old\nold\nnameserver 192.0.2.1\nro\nro\nro\n755"
	if s.options.Copies {
		want = strings.ReplaceAll(want, "ro\n", "")
	}
	if got != want {
		t.Errorf("got %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(text) != "old\n" {
		t.Errorf("a file that was mounted read-only has %q, %v outside", text, err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "no")); err == nil {
		t.Error("a file was made in a folder that was mounted read-only")
	}
	if text, _ := os.ReadFile(filepath.Join(outside, "made")); string(text) != "new\n" {
		t.Errorf("a file made in a mount has %q outside", text)
	}
	spec.Command = []string{"bash", "-c", "echo x >/tmp/a; echo x >>/etc/plain; rm /etc/group; echo x >in-the-mount"}
	if _, _, res := s.output(t, spec); res.Changed != 3 {
		t.Errorf("%d files changed outside the mounts, want 3", res.Changed)
	}
}

// links tries targets whose own links lead elsewhere: they mean places inside.
func (s *suite) links(t *testing.T) {
	for _, link := range []string{"../run/resolve/stub.conf", "/run/resolve/stub.conf", "../../../../../run/resolve/stub.conf"} {
		spec := s.spec()
		spec.Lower = []string{layer(t, "etc/linked.conf", link)}
		spec.Files = []runtime.File{{Path: "/etc/linked.conf", Content: []byte("here\n")}}
		if got := s.shell(t, spec, "cat /etc/linked.conf /run/resolve/stub.conf"); got != "here\nhere" {
			t.Errorf("%s: got %q", link, got)
		}
	}
	outside := t.TempDir()
	spec := s.spec()
	spec.Lower = []string{layer(t, "etc/escape", outside)}
	spec.Files = []runtime.File{{Path: "/etc/escape/sub/file", Content: []byte("here\n")}}
	if got := s.shell(t, spec, "cat "+outside+"/sub/file"); got != "here" {
		t.Errorf("got %q", got)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("a mount target's link led out of the root: %v", left)
	}
}

// layer makes a layer that holds one symbolic link.
func layer(t *testing.T, path, target string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a,b:c") // what overlay's options need escaped
	must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755))
	must(t, os.Symlink(target, filepath.Join(dir, path)))
	return dir
}

func (s *suite) network(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	script := fmt.Sprintf(`if (exec 3<>/dev/tcp/127.0.0.1/%s) 2>/dev/null; then echo reached; else echo cut off; fi`, port)
	for network, want := range map[runtime.Network]string{runtime.NetworkHost: "reached", runtime.NetworkNone: "cut off", "": "cut off"} {
		if want != "reached" && s.options.NoNamespaces {
			continue
		}
		spec := s.spec()
		spec.Network = network
		if got := s.shell(t, spec, script); got != want {
			t.Errorf("network %q: %s, want %s", network, got, want)
		}
	}
}

// isolation tries to write to the root filesystem, and to reach this machine.
func (s *suite) isolation(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "secret\n")
	for _, script := range []string{
		"echo x >>/etc/plain; echo x >>/etc/linked; chmod 4755 /bin/true; rm -r /etc /bin/ls; true",
		"ln /etc/plain /etc/third; echo x >>/etc/third; touch -d 2001-01-01 /etc/linked; true",
		"echo x >>/proc/self/root/etc/plain; echo x >>/proc/$$/cwd/etc/plain; true",
		"mount -o remount,rw / ; mount --bind /etc /tmp; umount /proc; umount /sys; true",
		"unshare -m mount -o remount,rw /; unshare -Ur true; true",
		"mkdir /tmp/d; cd /tmp/d; echo x >../../../../../../../../../../../../etc/plain; true",
	} {
		spec := s.spec("bash", "-c", script)
		s.output(t, spec)
	}
	for _, script := range []string{
		"cat /proc/1/root" + secret, "cat " + secret, "ls /proc/1/root/", "cat /proc/1/environ", "ls -l /proc/1/fd/",
		"mknod /tmp/disk b 254 0; cat /tmp/disk | head -c 1 | grep .", "mknod /dev/disk b 254 0 && cat /dev/disk | head -c 1 | grep .",
		"mknod /tmp/mem c 1 1 && cat /tmp/mem | head -c 1 | grep .", "mknod /tmp/misc c 10 229 && (exec 3<>/tmp/misc)", "echo c >/proc/sysrq-trigger", "echo 1 >/proc/sys/kernel/panic",
		"mount -t proc proc /tmp", "umount /etc/..", "kill -9 1; sleep 0.1; kill -0 1 && exit 1", "head -c 1 /proc/kcore | grep .",
		"unshare -m true",
	} {
		if s.options.Copies && strings.Contains(script, ">/proc/") {
			continue // a plain file of the session's own
		}
		spec := s.spec("bash", "-c", script)
		if stdout, _, res := s.output(t, spec); res.ExitCode == 0 {
			t.Errorf("%s succeeded inside: %q", script, stdout)
		}
	}
}

// otherRoot looks at the twin of the root from inside: what a session of one writes,
// none of the other sees.
func (s *suite) otherRoot(t *testing.T) {
	spoil := s.spec("bash", "-c", "echo spoilt >>/etc/plain; chmod 600 /etc/linked; echo spoilt >/bin/true; rm /bin/ls; echo mine >/etc/new; sleep 0.2")
	look := s.spec("bash", "-c", "sleep 0.1; true && ls /etc/plain && cat /etc/plain && stat -c %a /etc/linked && [ ! -e /etc/new ]")
	look.Root, look.Identity, look.Name = s.other, "sha256:"+strings.Repeat("0", 64), "globex@1"
	var wg sync.WaitGroup
	wg.Go(func() { s.output(t, spoil) })
	for range 2 { // beside the one that writes, and after it
		if stdout, stderr, res := s.output(t, look); stdout != "/etc/plain\nplain\n644\n" || res.ExitCode != 0 {
			t.Errorf("another env sees %q, exit code %d\n%s", stdout, res.ExitCode, stderr)
		}
		wg.Wait()
	}
}

func (s *suite) keptUpper(t *testing.T) {
	spec := s.spec()
	spec.Upper = t.TempDir()
	s.shell(t, spec, "echo kept >/etc/kept; rm /etc/plain")
	if got := s.shell(t, spec, "cat /etc/kept; [ -e /etc/plain ] || echo gone"); got != "kept\ngone" {
		t.Errorf("the second session saw %q", got)
	}
	if got := s.shell(t, s.spec(), "[ -e /etc/kept ] || cat /etc/plain"); got != "plain" {
		t.Errorf("a session without the kept folder saw %q", got)
	}
	// What is kept has one form, whatever the engine: an overlay's upper folder. What was
	// made for mounts is no change, in later sessions neither.
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "shown\n")
	spec.Mounts = []runtime.Mount{{Source: file, Target: "/srv/made/file"}, {Source: t.TempDir(), Target: "/made"}}
	for range 2 {
		spec.Command = []string{"cat", "/srv/made/file"}
		if stdout, stderr, res := s.output(t, spec); stdout != "shown\n" || res.Changed != 2 {
			t.Errorf("%d files are changed, want the two from before; %q, %s", res.Changed, stdout, stderr)
		}
		spec.Mounts = spec.Mounts[:1]
	}
	points, err := runtime.KeptPoints(spec.Upper)
	if err != nil || !slices.Contains(points, "made/") || !slices.Contains(points, "srv/made/file") {
		t.Errorf("the mount points are %q, %v", points, err)
	}
	kept, err := os.ReadFile(filepath.Join(spec.Upper, "upper", "etc", "kept"))
	if err != nil || string(kept) != "kept\n" {
		t.Errorf("kept is %q, %v", kept, err)
	}
	if info, err := os.Lstat(filepath.Join(spec.Upper, "upper", "etc", "plain")); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("what was removed isn't kept as a whiteout: %v, %v", info, err)
	}
}

func (s *suite) atOnce(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var out bytes.Buffer
			spec := s.spec("bash", "-c", fmt.Sprintf("echo %d >/tmp/n; sleep 0.05 & cat /tmp/n; exit %d", i, i))
			res, err := s.engine.Run(t.Context(), spec, runtime.Stdio{Out: &out})
			if err != nil || res.ExitCode != i || out.String() != fmt.Sprintln(i) {
				t.Errorf("session %d: %v, exit code %d, wrote %q", i, err, res.ExitCode, out.String())
			}
		})
	}
	wg.Wait()
}

// stragglers leaves processes behind that hold on to the session in every way.
func (s *suite) stragglers(t *testing.T) {
	start := time.Now()
	stdout, _, res := s.output(t, s.spec("bash", "-c", "trap '' HUP TERM INT; (setsid sleep 600 &) ; sleep 600 & echo done; exit 3"))
	if res.ExitCode != 3 || stdout != "done\n" {
		t.Errorf("exit code %d, wrote %q after %v", res.ExitCode, stdout, time.Since(start))
	}
}

func (s *suite) cancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	go func() {
		r.Read(make([]byte, 1))
		cancel()
	}()
	_, err = s.engine.Run(ctx, s.spec("bash", "-c", "trap '' HUP TERM INT; echo; while :; do sleep 600; done"), runtime.Stdio{Out: w})
	w.Close()
	if err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a canceled session ended with %v", err)
	}
}
