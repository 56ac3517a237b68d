package oci_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/rootless"
	"github.com/stead-env/stead/runtime/rootless/rootlesstest"
	"github.com/stead-env/stead/runtime/session"
)

// sessionsAs is set in a copy of the test program that an ordinary user runs, to who
// the sessions of the suite are.
const sessionsAs = "STEAD_TEST_SESSIONS_AS"

func TestMain(m *testing.M) {
	if code, ok := session.Hook(os.Args); ok {
		os.Exit(code)
	}
	if inside, _, err := rootless.Await(); os.Getenv(sessionsAs) != "" && !inside && rootless.Needed() {
		code := 1
		if err == nil {
			code, err = rootless.Enter(rootless.Find(os.TempDir()))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	enginetest.Main(m, oci.New(os.Getenv(variable)))
}

// TestRootless runs the suite as an ordinary user, with subordinate ids and with
// none, and each with sessions of root and of the user.
func TestRootless(t *testing.T) {
	if who := os.Getenv(sessionsAs); who != "" {
		_, err := rootless.Subordinate()
		options := enginetest.Options{OneUser: err != nil}
		if who == "user" {
			options.UID, options.GID = uint32(os.Getuid()), uint32(os.Getgid())
		}
		enginetest.Run(t, oci.New(os.Getenv(variable)), options)
		return
	}
	needRoot(t)
	program := rootlesstest.Program(t)
	for _, ids := range []string{"subordinate ids", "a single id"} {
		for who, binary := range map[string]string{"root": "crun", "user": "runc"} {
			u := rootlesstest.NewUser(t, ids == "subordinate ids")
			t.Run(fmt.Sprintf("%s, sessions of %s, %s", ids, who, binary), func(t *testing.T) {
				t.Parallel()
				asUser(t, u, program, sessionsAs+"="+who, variable+"="+binary)
			})
		}
	}
}

// asUser runs a test of this name as a user.
func asUser(t *testing.T, u *rootlesstest.User, program string, env ...string) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := u.Command(t, program, "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
		t.Errorf("%v\n%s", err, out)
	}
}

// scratchVariable is the folder for sessions in a copy of the test program.
const scratchVariable = "STEAD_TEST_SCRATCH"

// TestElsewhere has sessions in a folder that can't be the upper layer of an overlay,
// which one on an overlay can't: as root, and as an ordinary user in both ways.
func TestElsewhere(t *testing.T) {
	if scratch := os.Getenv(scratchVariable); scratch != "" {
		elsewhere(t, scratch)
		return
	}
	needRoot(t)
	program := rootlesstest.Program(t)
	dir, err := os.MkdirTemp("", "stead-overlay-")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	for _, name := range []string{"lower", "upper", "work", "top"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	must(t, unix.Mount("overlay", filepath.Join(dir, "top"), "overlay", 0,
		fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)))
	defer unix.Unmount(filepath.Join(dir, "top"), unix.MNT_DETACH)
	for _, subordinate := range []bool{true, false} {
		u := rootlesstest.NewUser(t, subordinate)
		scratch := filepath.Join(dir, "top", u.Name)
		must(t, os.Mkdir(scratch, 0o700))
		must(t, os.Chown(scratch, int(u.UID), int(u.GID)))
		asUser(t, u, program, sessionsAs+"=user", scratchVariable+"="+scratch)
		must(t, os.RemoveAll(fmt.Sprintf("/var/tmp/stead-%d", u.UID)))
	}
	scratch := filepath.Join(dir, "top", "root")
	must(t, os.Mkdir(scratch, 0o700))
	elsewhere(t, scratch)
}

func elsewhere(t *testing.T, scratch string) {
	engine, root := oci.New(""), enginetest.Root(t)
	spec := runtime.Spec{Name: "acme@1", Root: root, Scratch: scratch, Umask: 0o022, Env: []string{"PATH=/bin"},
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Command: []string{"bash", "-c", "rm -r /tmp; mkdir /tmp; touch /tmp/x; ls /tmp; sleep 0.1"}}
	run := func(place string) {
		t.Helper()
		var out strings.Builder
		res, err := engine.Run(t.Context(), spec, runtime.Stdio{Out: &out, Err: &out})
		if err != nil || res.ExitCode != 0 || out.String() != "x\n" || len(res.Notes) != 1 || !strings.HasSuffix(res.Notes[0], "kept in "+place) {
			t.Errorf("want a note that ends with %s: %v, %+v, %s", place, err, res, out.String())
		}
	}
	own := fmt.Sprintf("/var/tmp/stead-%d", os.Getuid())
	var st unix.Statfs_t
	must(t, unix.Statfs("/var/tmp", &st))
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC { // a test in a container
		own = "memory"
	}
	run(own)
	if left, err := os.ReadDir(own); len(left) > 0 || err != nil && own != "memory" {
		t.Errorf("left in %s: %v, %v", own, left, err)
	}
	spec.Upper = filepath.Join(scratch, "kept")
	must(t, os.Mkdir(spec.Upper, 0o700))
	_, err := engine.Run(t.Context(), spec, runtime.Stdio{})
	if hint, ok := err.(interface{ Hint() string }); !ok || !strings.Contains(hint.Hint(), "STEAD_STORE") {
		t.Errorf("a kept session there: %v, want an error with a hint", err)
	}
	if os.Getuid() == 0 {
		return // a folder of that name may be another session's
	}
	spec.Upper = ""
	must(t, os.RemoveAll(own))
	must(t, os.WriteFile(own, nil, 0o600)) // as if it were somebody else's
	defer os.Remove(own)
	run("memory")
}

// TestMaskedProc is an ordinary user where a part of /proc is hidden, as containers
// hide it: there can be no other /proc, which is said with what to do about it.
func TestMaskedProc(t *testing.T) {
	if os.Getenv(sessionsAs) != "" {
		spec := runtime.Spec{Name: "acme@1", Root: enginetest.Root(t), Scratch: t.TempDir(), Umask: 0o022, Command: []string{"/bin/true"}}
		_, err := oci.New("").Run(t.Context(), spec, runtime.Stdio{})
		if hint, ok := err.(interface{ Hint() string }); !ok || !strings.Contains(hint.Hint(), "systempaths") {
			t.Errorf("got %v, want an error with a hint", err)
		}
		return
	}
	needRoot(t)
	program, u := rootlesstest.Program(t), rootlesstest.NewUser(t, true)
	cmd := u.Command(t, program, "-test.run=^TestMaskedProc$", "-test.v")
	cmd.Env = append(cmd.Env, sessionsAs+"=root")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, session.OnThread(func() error {
		if err := session.PrivateMounts(); err != nil {
			return err
		}
		if err := unix.Mount("/dev/null", "/proc/keys", "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return cmd.Start()
	}))
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: TestMaskedProc") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
