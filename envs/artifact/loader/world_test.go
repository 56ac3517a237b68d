package loader_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// world is a root with a C library of this machine, in which both the real loader and this
// package follow the same programs.
type world struct {
	*testing.T
	root   string
	system *system.Live
	cpu    string
	change func(l *system.Loader)
	env    []string // for the real loader
	clib   clib
}

// clib is one of the C libraries that this machine has.
type clib struct {
	family system.Family
	wide   bool
	files  []string // below the root, links as they are
	flags  []string // for gcc
}

var (
	glibc = clib{family: system.GLibC, wide: true, files: []string{"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6"}}
	glibc32 = clib{family: system.GLibC, files: []string{"/lib/ld-linux.so.2", "/lib32/ld-linux.so.2", "/lib32/libc.so.6"},
		flags: []string{"-m32", "-nostdlib", "-fno-pic", "-fno-stack-protector"}}
	muslc = clib{family: system.Musl, wide: true, files: []string{"/lib/ld-musl-x86_64.so.1", "/lib/x86_64-linux-musl/libc.so"},
		flags: []string{"-nostdlib", "-fno-stack-protector", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"}}
)

// at makes a root with some C libraries. The first is that of the programs.
func at(t *testing.T, libs ...clib) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the real loader runs in a root of its own: that takes root")
	}
	t.Parallel()
	w := &world{T: t, root: t.TempDir(), clib: libs[0]}
	for _, dir := range []string{"usr/lib", "usr/lib32", "usr/lib64", "etc", "opt", "proc"} {
		w.must(os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	for _, dir := range []string{"lib", "lib32", "lib64"} {
		w.must(os.Symlink("usr/"+dir, filepath.Join(w.root, dir)))
	}
	for _, l := range libs {
		for _, f := range l.files {
			if to, err := os.Readlink(f); err == nil {
				w.must(os.MkdirAll(filepath.Dir(w.root+f), 0o755))
				w.must(os.Symlink(to, w.root+f))
				continue
			}
			b, err := os.ReadFile(f)
			w.must(err)
			w.write(f, string(b))
			w.must(os.Chmod(w.root+f, 0o755))
		}
	}
	w.reopen()
	t.Cleanup(func() { w.system.Close() })
	return w
}

// reopen reads the root anew, as it is now.
func (w *world) reopen() {
	w.Helper()
	if w.system != nil {
		w.system.Close()
	}
	var err error
	w.system, err = system.OpenLive(w.root, system.LiveOptions{CPU: w.cpu})
	w.must(err)
}

// at2 is the same root, to compile for another C library.
func at2(w *world, c clib) *world {
	other := *w
	other.clib = c
	return &other
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) write(p, content string) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.root+p), 0o755))
	w.must(os.WriteFile(w.root+p, []byte(content), 0o644))
}

func (w *world) link(to, p string) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.root+p), 0o755))
	w.must(os.Symlink(to, w.root+p))
}

func (w *world) remove(p string) {
	w.Helper()
	w.must(os.Remove(w.root + p))
}

// patch changes a file's bytes.
func (w *world) patch(p string, change func(b []byte) []byte) {
	w.Helper()
	b, err := os.ReadFile(w.root + p)
	w.must(err)
	w.must(os.WriteFile(w.root+p, change(b), 0o755))
}

// gcc compiles C to a path of the root. Other paths of the root among the arguments begin
// with an @.
func (w *world) gcc(p, source string, args ...string) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.root+p), 0o755))
	dir := w.TempDir()
	file := filepath.Join(dir, "a.c")
	w.must(os.WriteFile(file, []byte(source), 0o644))
	all := append([]string{"-w", "-o", w.root + p, file}, w.clib.flags...)
	for _, a := range args {
		if rest, ok := strings.CutPrefix(a, "@"); ok {
			a = w.root + rest
		}
		if rest, ok := strings.CutPrefix(a, "map:"); ok {
			script := filepath.Join(dir, "a.map")
			w.must(os.WriteFile(script, []byte(rest), 0o644))
			all = append(all, "-Xlinker", "--version-script="+script)
			continue
		}
		all = append(all, a)
	}
	if out, err := exec.Command("gcc", all...).CombinedOutput(); err != nil {
		w.Fatalf("gcc %v: %v\n%s", all, err, out)
	}
}

// lib compiles a library; its soname is its file's name.
func (w *world) lib(p, source string, args ...string) {
	w.Helper()
	w.gcc(p, source, append([]string{"-shared", "-fPIC", "-Wl,-soname," + filepath.Base(p)}, args...)...)
}

// program compiles one. Its main is start() where there is no C library to link.
func (w *world) program(p, source string, args ...string) {
	w.Helper()
	if len(w.clib.flags) > 0 {
		w.gcc(p, strings.Replace(source, "int main(", "int start(", 1)+w.entry(), append([]string{"-no-pie"}, args...)...)
		return
	}
	w.gcc(p, source, append([]string{"-Wl,-z,lazy", "-Wl,--allow-shlib-undefined", "-Wl,--disable-new-dtags"}, args...)...)
}

// entry leaves a program by a system call of its own.
func (w *world) entry() string {
	if !w.clib.wide {
		return "\nvoid _start(void){__asm__ volatile(\"int $0x80\"::\"a\"(1),\"b\"(start()));}"
	}
	return "\nvoid _start(void){__asm__ volatile(\"and $-16,%%rsp\\n\"\"syscall\"::\"a\"(231),\"D\"(start()));}"
}

// inRoot is a root in which this program becomes another one.
const inRoot = "STEAD_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(inRoot); root != "" {
		fmt.Fprintln(os.Stderr, become(root, os.Args[1:]))
		os.Exit(127)
	}
	os.Exit(m.Run())
}

// become starts a program in a root, in place of this one. Its mount namespace is its own:
// the /proc that tells a loader where its program is goes with it.
func become(root string, args []string) error {
	if err := syscall.Mount("/proc", root+"/proc", "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := syscall.Chdir("/"); err != nil {
		return err
	}
	var env []string
	for _, e := range os.Environ() {
		if e, ok := strings.CutPrefix(e, inRoot+"_"); ok {
			env = append(env, e)
		}
	}
	return syscall.Exec(args[0], args, env)
}

// run starts a program in the root, and says how it ended.
func (w *world) run(env []string, args ...string) (code int, output string) {
	w.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{inRoot + "=" + w.root}
	for _, e := range env {
		cmd.Env = append(cmd.Env, inRoot+"_"+e) // not for this program's own loader
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 127, err.Error()
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal()), out.String()
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (w *world) object(p string) *object.Object {
	w.Helper()
	f, ok := w.system.Find(p)
	if !ok {
		w.Fatalf("there is no %s", p)
	}
	o, err := f.Object()
	w.must(err)
	return o
}

// outcome is what a start comes to, in the words of the tests.
type outcome string

const (
	starts outcome = "starts"
	fails  outcome = "fails"       // before main
	later  outcome = "fails later" // once it calls what isn't there
)

// judge follows a program here.
func (w *world) judge(p string) (outcome, *loader.Result) {
	w.Helper()
	w.reopen()
	r := w.session().Load(loader.Program{Path: p, Object: w.object(p)})
	return told(r), r
}

// session follows programs in the root, with what a test changes of its loader.
func (w *world) session() *loader.Session {
	if w.change == nil {
		return loader.NewSession(w.system, [3]uint32{})
	}
	return loader.NewSession(changed{w.system, w.change}, [3]uint32{})
}

// changed is a system with another loader.
type changed struct {
	loader.System
	change func(l *system.Loader)
}

func (c changed) Loader(p string) (*system.Loader, bool) {
	l, ok := c.System.Loader(p)
	if !ok {
		return nil, false
	}
	other := *l
	c.change(&other)
	return &other, true
}

func told(r *loader.Result) outcome {
	is := starts
	for _, p := range r.Problems {
		switch {
		case p.Harmless:
		case p.Later && is == starts:
			is = later
		case !p.Later:
			is = fails
		}
	}
	return is
}

// real starts a program by the real loader. The programs of the tests tell when they have
// reached their main.
func (w *world) real(p string) (outcome, string) {
	w.Helper()
	code, out := w.run(w.env, p)
	switch {
	case code < 126 && !(strings.Contains(out, ": version `") && strings.Contains(out, "' not found")):
		return starts, out
	case strings.Contains(out, "MAIN"):
		return later, out
	}
	return fails, out
}

// agree compares both, and what was loaded.
func (w *world) agree(p string, want outcome) *loader.Result {
	w.Helper()
	return w.agree2(p, want, want)
}

// agree2 is agree for a program that doesn't call what it lacks.
func (w *world) agree2(p string, want, seen outcome) *loader.Result {
	w.Helper()
	got, r := w.judge(p)
	is, out := w.real(p)
	if got != want || is != seen {
		w.Errorf("%s: %s; the real loader: %s; expected: %s\n%s%s", p, got, is, want, out, list(r))
	}
	if want != fails && r.Loader != nil {
		w.sameFiles(p, r)
	}
	return r
}

// sameFiles compares the files that are loaded.
func (w *world) sameFiles(p string, r *loader.Result) {
	w.Helper()
	_, out := w.run(append(w.env, "LD_TRACE_LOADED_OBJECTS=1"), p)
	if w.clib.family == system.Musl {
		_, out = w.run(w.env, "/lib/ld-musl-x86_64.so.1", "--list", p)
	}
	var theirs []string
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) >= 3 && f[1] == "=>" && f[2] != "not": // an auxiliary filter need not be there
			theirs = append(theirs, f[2])
		case len(f) == 2 && strings.HasPrefix(f[0], "/"):
			theirs = append(theirs, f[0])
		}
	}
	var ours []string
	for _, m := range r.Objects[1:] {
		ours = append(ours, m.Name)
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	theirs, ours = slices.Compact(theirs), slices.Compact(ours)
	if w.clib.family == system.Musl { // it names itself by different names
		self := func(s string) bool { return strings.Contains(s, "musl") }
		theirs, ours = slices.DeleteFunc(theirs, self), slices.DeleteFunc(ours, self)
	}
	if !slices.Equal(theirs, ours) {
		w.Errorf("%s loads %v; the real loader: %v", p, ours, theirs)
	}
}

func list(r *loader.Result) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s: %s %s %s %s %s later=%v harmless=%v\n", p.Kind, p.Library, p.Symbol, p.Version, p.Bad, p.Reason, p.Later, p.Harmless)
	}
	return b.String()
}

// problem is the only one of a kind.
func (w *world) problem(r *loader.Result, kind loader.Kind) loader.Problem {
	w.Helper()
	var found []loader.Problem
	for _, p := range r.Problems {
		if p.Kind == kind {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		w.Fatalf("%d problems are %s:\n%s", len(found), kind, list(r))
	}
	return found[0]
}

func (w *world) copyFile(from, to string) error {
	b, err := os.ReadFile(w.root + from)
	if err != nil {
		return err
	}
	w.write(to, string(b))
	return nil
}

func (w *world) cut(p string, size int) {
	w.patch(p, func(b []byte) []byte { return b[:size] })
}

// diagnosed is a value that this machine's loader tells of itself.
func (w *world) diagnosed(key string) string {
	w.Helper()
	out, err := exec.Command("/lib64/ld-linux-x86-64.so.2", "--list-diagnostics").Output()
	w.must(err)
	for _, line := range strings.Split(string(out), "\n") {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.Trim(value, `"`)
		}
	}
	w.Fatalf("the loader doesn't tell %s", key)
	return ""
}

// activeHWCaps gives the root's loader those of this machine's processor.
func (w *world) activeHWCaps() (active []string) {
	w.Helper()
	var mask uint
	_, err := fmt.Sscanf(w.diagnosed("dl_hwcaps_subdirs_active"), "0x%x", &mask)
	w.must(err)
	for i, h := range strings.Split(w.diagnosed("dl_hwcaps_subdirs"), ":") {
		if mask&(1<<i) != 0 {
			active = append(active, h)
		}
	}
	if len(active) > 0 {
		w.cpu = active[0]
	}
	return active
}
