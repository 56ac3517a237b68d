package loader_test

import (
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
)

// freestanding are usesA and hasA without a C library.
const freeA = "int a(void); int main(){return a();}"

func TestI386OnAMD64(t *testing.T) {
	w := at(t, glibc32, glibc)
	w.lib("/usr/lib32/liba.so", hasA)
	w.program("/opt/p", freeA, "@/usr/lib32/liba.so")
	w.agree("/opt/p", starts)
	// The wide one is nobody's.
	wide := at2(w, glibc)
	wide.remove("/usr/lib32/liba.so")
	wide.lib("/usr/lib/liba.so", hasA)
	r := w.agree("/opt/p", fails)
	if p := w.problem(r, loader.MissingLibrary); p.Bad != "/lib/liba.so" {
		t.Error(list(r))
	}
}

func TestNoLoader(t *testing.T) {
	w := at(t, glibc)
	w.program("/opt/p", usesA, "-Wl,--unresolved-symbols=ignore-all", "-Wl,--dynamic-linker=/lib/ld-other.so.1")
	w.problem(w.agree("/opt/p", fails), loader.NoLoader)
	w.gcc("/opt/q", "void _start(void){}", "-nostdlib", "-pie")
	w.patch("/opt/q", func(b []byte) []byte { b[18] = 183; return b })
	w.problem(w.agree("/opt/q", fails), loader.WrongMachine)
}

func TestStatic(t *testing.T) {
	w := at(t, glibc)
	free := "void _start(void){__asm__ volatile(\"syscall\"::\"a\"(231),\"D\"(0));}"
	w.gcc("/opt/static", free, "-nostdlib", "-static")
	w.gcc("/opt/pie", free, "-nostdlib", "-static-pie")
	for _, p := range []string{"/opt/static", "/opt/pie"} {
		r := w.agree(p, starts)
		if r.Loader != nil {
			t.Errorf("%s has a loader", p)
		}
	}
}

func TestNoSectionHeaders(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	for _, p := range []string{"/opt/p", "/usr/lib/liba.so"} {
		w.patch(p, func(b []byte) []byte {
			copy(b[40:48], make([]byte, 8)) // e_shoff
			copy(b[58:64], make([]byte, 6)) // and what goes with it
			return b
		})
	}
	w.agree("/opt/p", starts)
	w.remove("/usr/lib/liba.so")
	w.problem(w.agree("/opt/p", fails), loader.MissingLibrary)
}

func TestMusl(t *testing.T) {
	w := at(t, muslc)
	w.lib("/usr/local/lib/liba.so", hasA)
	w.program("/opt/p", freeA, "@/usr/local/lib/liba.so")
	w.agree("/opt/p", starts)
	w.write("/lib/liba.so", "text, and earlier")
	w.problem(w.agree("/opt/p", fails), loader.BadLibrary)
	w.remove("/lib/liba.so")
	w.remove("/usr/local/lib/liba.so")
	w.problem(w.agree("/opt/p", fails), loader.MissingLibrary)
}

func TestMuslRUNPATHIsInherited(t *testing.T) {
	w := at(t, muslc)
	w.lib("/opt/lib/libb.so", hasB)
	w.lib("/opt/lib/liba.so", usesB, "@/opt/lib/libb.so", "-Wl,-rpath,/nowhere", "-Wl,--enable-new-dtags")
	for _, tags := range []string{"-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"} {
		w.program("/opt/p", freeA, "@/opt/lib/liba.so", "-Wl,-rpath,$ORIGIN/lib", "-Wl,--allow-shlib-undefined", tags)
		w.agree("/opt/p", starts)
	}
	// Another token voids all of it.
	w.program("/opt/q", freeA, "@/opt/lib/liba.so", "-Wl,-rpath,$ORIGIN/lib:/opt/$LIB", "-Wl,--allow-shlib-undefined")
	w.agree("/opt/q", fails)
}

func TestMuslIsItsOwnLibraries(t *testing.T) {
	w := at(t, muslc)
	w.gcc("/build/libm.so.6", "double sin(double x){return x;}", "-shared", "-fPIC", "-Wl,-soname,libm.so.6")
	w.gcc("/build/libc.so.6", "int getpid(void){return 1;}", "-shared", "-fPIC", "-Wl,-soname,libc.so.6")
	w.program("/opt/p", "double sin(double); int getpid(void); int main(){return getpid()==0;}", "@/build/libc.so.6", "@/build/libm.so.6", "-Wl,--no-as-needed")
	w.agree("/opt/p", starts)
}

func TestMuslVersions(t *testing.T) {
	w := at(t, muslc)
	w.lib("/usr/lib/liba.so", hasA, "map:V1 { global: a; local: *; };")
	w.program("/opt/p", freeA, "@/usr/lib/liba.so")
	w.lib("/usr/lib/liba.so", hasA) // without versions
	w.agree("/opt/p", starts)
	// Only what is the default is seen.
	w.lib("/usr/lib/liba.so", "int one(void){return 0;} __asm__(\".symver one,a@V1\");", "map:V1 { global: one; local: *; };")
	w.problem(w.agree("/opt/p", fails), loader.MissingSymbol)
}

func TestMuslIsNeverLazy(t *testing.T) {
	w := at(t, muslc)
	w.lib("/usr/lib/liba.so", "int none(void); int unused(void){return none();}"+hasA)
	w.program("/opt/p", freeA, "@/usr/lib/liba.so", "-Wl,-z,lazy", "-Wl,--allow-shlib-undefined")
	if p := w.problem(w.agree("/opt/p", fails), loader.MissingSymbol); p.Symbol != "none" || p.Later {
		t.Error(p)
	}
	w.lib("/usr/lib/liba.so", "int none(void) __attribute__((weak)); int unused(void){return none ? none() : 0;}"+hasA)
	w.agree("/opt/p", starts)
}

func TestMuslWrongClass(t *testing.T) {
	w := at(t, muslc)
	w.lib("/usr/local/lib/liba.so", hasA)
	w.program("/opt/p", freeA, "@/usr/local/lib/liba.so")
	at2(w, glibc32).lib("/lib/liba.so", hasA)
	w.problem(w.agree("/opt/p", fails), loader.BadLibrary)
}
