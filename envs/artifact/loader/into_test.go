package loader_test

import (
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
)

// into judges a module that a program loads, here and by the real loader.
func (w *world) into(host, module string, now bool, want outcome) *loader.Result {
	w.Helper()
	w.reopen()
	r := w.session().Load(loader.Program{Path: module, Object: w.object(module), Into: []string{"/nothing", host}, Now: now})
	env := []string{"MODULE=" + module}
	if now {
		env = append(env, "NOW=1")
	}
	is := starts
	code, out := w.run(env, host)
	switch {
	case code == 3:
		is = fails
	case code != 0:
		is = later
	}
	if got := told(r); got != want || is != want {
		w.Errorf("%s: %s; the real loader: %s (%d %s); expected: %s\n%s", module, got, is, code, out, want, list(r))
	}
	return r
}

// opens is a program that loads a module and calls its start.
const opens = `
#include <dlfcn.h>
#include <stdlib.h>
int help(void){return 0;}
int main(){
	void *m = dlopen(getenv("MODULE"), getenv("NOW") ? RTLD_NOW : RTLD_LAZY);
	if (!m) return 3;
	return ((int(*)(void))dlsym(m, "start"))();
}`

func TestInto(t *testing.T) {
	w := at(t, glibc)
	w.gcc("/opt/host", opens, "-rdynamic", "-Wl,-rpath,/opt/lib", "-Wl,--disable-new-dtags")
	// It has what its host exports.
	w.lib("/opt/mod.so", "int help(void); int start(void){return help();}")
	w.into("/opt/host", "/opt/mod.so", true, starts)
	// And looks for libraries in its host's RPATH, as long as it has no RUNPATH.
	w.lib("/opt/lib/liba.so", hasA)
	w.lib("/opt/mod.so", "int a(void); int start(void){return a();}", "@/opt/lib/liba.so")
	r := w.into("/opt/host", "/opt/mod.so", true, starts)
	if r.Objects[0].Name != "/opt/mod.so" {
		t.Error(r.Objects[0].Name)
	}
	w.lib("/opt/mod.so", "int a(void); int start(void){return a();}", "@/opt/lib/liba.so", "-Wl,-rpath,/nowhere", "-Wl,--enable-new-dtags")
	w.problem(w.into("/opt/host", "/opt/mod.so", true, fails), loader.MissingLibrary)
	// What it lacks shows at once, or at the call.
	w.lib("/opt/mod.so", "int none(void); int start(void){return none();}", "-Wl,-z,lazy")
	w.into("/opt/host", "/opt/mod.so", true, fails)
	w.into("/opt/host", "/opt/mod.so", false, later)
	w.lib("/opt/mod.so", "int none(void); int start(void){return none();}", "-Wl,-z,now")
	w.into("/opt/host", "/opt/mod.so", false, fails)
}

func TestIntoAnotherMachine(t *testing.T) {
	w := at(t, glibc, glibc32)
	w.gcc("/opt/host", opens, "-rdynamic")
	at2(w, glibc32).lib("/opt/mod.so", "int start(void){return 0;}")
	w.problem(w.into("/opt/host", "/opt/mod.so", true, fails), loader.WrongMachine)
}

func TestAlone(t *testing.T) {
	w := at(t, glibc, glibc32, muslc)
	w.lib("/opt/mod.so", "int none(void); int start(void){return none();}")
	_, r := w.judge("/opt/mod.so")
	if p := w.problem(r, loader.MissingSymbol); p.By != r.Objects[0] || !p.Later {
		t.Error(list(r))
	}
	at2(w, glibc32).lib("/opt/narrow.so", "int none(void); int start(void){return none();}")
	if _, r := w.judge("/opt/narrow.so"); r.Loader == nil || r.Loader.Path != "/usr/lib32/ld-linux.so.2" {
		t.Error(list(r))
	}
}
