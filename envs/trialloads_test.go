package envs

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What a real loader tells of programs that start each other, open libraries, and don't
// start.
func TestReadLoads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cc := func(source string, args ...string) {
		cmd := exec.Command("gcc", append(args, "-x", "c", "-")...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(source)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cc("int gone(void) { return 0; }", "-shared", "-o", "libgone.so")
	cc("int gone(void); int own(void) { return 0; }", "-shared", "-o", "libown.so")
	cc("int own(void); int plug(void) { return own(); }", "-shared", "-o", "plug.odd", "-L.", "-lown", "-Wl,-rpath,$ORIGIN")
	link := func(name, source string, args ...string) { // what is linked stands behind the source
		tmp := name + ".o"
		cc(source, "-c", "-o", tmp)
		cmd := exec.Command("gcc", append([]string{"-o", name, tmp}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	link("broken", "int gone(void); int main(void) { return gone(); }", "-L.", "-lgone")
	link("app", `#include <dlfcn.h>
		#include <unistd.h>
		int main(int n, char **a) { dlopen("./plug.odd", RTLD_NOW); dlopen("./nowhere.so", RTLD_NOW); dlopen("./libown.so", RTLD_NOW);
		if (n > 1) execv("./broken", a + 1); return 0; }`)
	if err := os.Remove(filepath.Join(dir, "libgone.so")); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "./app; exec ./app ./broken")
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", "LD_DEBUG=" + loadsDebug, "LD_DEBUG_OUTPUT=" + logs + "/log"}
	if err := cmd.Run(); err == nil {
		t.Fatal("it started")
	}
	got, err := readLoads(logs)
	if err != nil {
		t.Fatal(err)
	}
	opened := []string{"./plug.odd", "./libown.so"}
	want := map[string]loads{"sh": {"sh", true, nil}, "./app": {"./app", true, opened}, "./broken": {"./broken", false, nil}}
	apps := 0
	for _, l := range got {
		if l.name == "./app" {
			apps++
		}
		if w, ok := want[l.name]; !ok || l.started != w.started || l.name != "./app" && len(l.opened) > 0 ||
			l.name == "./app" && !reflect.DeepEqual(l.opened, w.opened[:len(l.opened)]) {
			t.Errorf("got %+v", l)
		}
	}
	if len(got) != 4 || apps != 2 {
		t.Errorf("got %+v", got)
	}
}

// A program with a start of its own never tells that it got control.
func TestReadLoadsWithoutLibcsStart(t *testing.T) {
	t.Parallel()
	list := parseLoads(strings.NewReader("  7:\tfile=libc.so.6 [0];  needed by ./app [0]\n  7:\tfile=libc.so.6 [0];  generating link map\n" +
		"  7:\tcalling init: /lib/libc.so.6\n  7:\tfile=libz.so.1 [0];  dynamically loaded by ./app [0]\n" +
		"  7:\tfile=libz.so.1 [0];  generating link map\n  7:\tcalling init: /lib/libz.so.1\n"))
	if want := []loads{{"./app", true, []string{"libz.so.1"}}}; !reflect.DeepEqual(list, want) {
		t.Errorf("got %+v", list)
	}
}

func FuzzParseLoads(f *testing.F) {
	f.Add("  7:\tfile=libc.so.6 [0];  needed by ./app [0]\n  7:\tfile=libc.so.6 [0];  generating link map\n" +
		"  7:\ttransferring control: ./app\n  7:\tfile=libz.so.1 [0];  dynamically loaded by ./app [0]\n" +
		"  7:\tfile=libz.so.1 [0];  generating link map\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range parseLoads(strings.NewReader(text)) {
			if len(l.opened) > maxOpened || l.name == "" && len(text) == 0 {
				t.Errorf("got %+v", l)
			}
		}
	})
}
