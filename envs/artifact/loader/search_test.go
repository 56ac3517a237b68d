package loader_test

import (
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/system"
)

// Sources of a program that needs one library, and of that library.
const (
	usesA = "int a(void); long write(int,const void*,long); int main(){write(1,\"MAIN\",4); return a();}"
	hasA  = "int a(void){return 0;}"
	usesB = "int b(void); int a(void){return b();}"
	hasB  = "int b(void){return 0;}"
)

func TestPlain(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.agree("/opt/p", starts)
	w.remove("/usr/lib/liba.so")
	r := w.agree("/opt/p", fails)
	if p := w.problem(r, loader.MissingLibrary); p.Library != "liba.so" || p.By != r.Objects[0] {
		t.Error(list(r))
	}
}

func TestInheritedRPATH(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/libb.so", hasB)
	w.lib("/opt/lib/liba.so", usesB, "@/opt/lib/libb.so")
	w.program("/opt/p", usesA, "@/opt/lib/liba.so", "@/opt/lib/libb.so", "-Wl,-rpath,/opt/lib", "-Wl,--as-needed")
	w.agree("/opt/p", starts)
}

func TestRUNPATHIsNotInherited(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/libb.so", hasB)
	w.lib("/opt/lib/liba.so", usesB, "@/opt/lib/libb.so")
	w.program("/opt/p", usesA, "@/opt/lib/liba.so", "-Wl,-rpath,/opt/lib", "-Wl,--enable-new-dtags")
	r := w.agree("/opt/p", fails)
	if p := w.problem(r, loader.MissingLibrary); p.Library != "libb.so" {
		t.Error(list(r))
	}
}

func TestRUNPATHOfALibrarySwitchesRPATHOff(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/libb.so", hasB)
	w.lib("/opt/lib/liba.so", usesB, "@/opt/lib/libb.so", "-Wl,-rpath,/nowhere", "-Wl,--enable-new-dtags")
	w.program("/opt/p", usesA, "@/opt/lib/liba.so", "-Wl,-rpath,/opt/lib")
	w.agree("/opt/p", fails)
	w.lib("/opt/lib/liba.so", usesB, "@/opt/lib/libb.so", "-Wl,-rpath,/nowhere", "-Wl,--disable-new-dtags")
	w.agree("/opt/p", starts)
}

func TestRPATHSkipsAncestorsWithRUNPATH(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/c/libc1.so", "int c(void){return 0;}")
	w.lib("/opt/b/libb.so", "int c(void); int b(void){return c();}", "@/opt/c/libc1.so")
	w.lib("/opt/a/liba.so", usesB, "@/opt/b/libb.so", "-Wl,-rpath,/opt/b", "-Wl,--enable-new-dtags")
	w.program("/opt/p", usesA, "@/opt/a/liba.so", "-Wl,-rpath,/opt/a:/opt/c")
	w.agree("/opt/p", starts)
}

func TestOrigin(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/app/lib/liba.so", hasA)
	for _, token := range []string{"$ORIGIN", "${ORIGIN}"} {
		w.program("/opt/app/bin/p", usesA, "@/opt/app/lib/liba.so", "-Wl,-rpath,"+token+"/../lib")
		w.agree("/opt/app/bin/p", starts)
	}
	w.program("/opt/app/bin/q", usesA, "@/opt/app/lib/liba.so", "-Wl,-rpath,$ORIGINAL/../lib")
	w.agree("/opt/app/bin/q", fails)
}

func TestOriginBehindALink(t *testing.T) {
	w := at(t, glibc)
	// A program's is where it really is; a library's is where it was found.
	w.lib("/opt/app/lib/liba.so", hasA)
	w.program("/opt/app/bin/p", usesA, "@/opt/app/lib/liba.so", "-Wl,-rpath,$ORIGIN/../lib")
	w.link("/opt/app/bin/p", "/usr/bin/p")
	w.agree("/usr/bin/p", starts)

	w.lib("/opt/real/libb.so", hasB)
	w.lib("/opt/real/liba.so", usesB, "@/opt/real/libb.so", "-Wl,-rpath,$ORIGIN", "-Wl,--enable-new-dtags")
	w.link("/opt/real/liba.so", "/opt/view/liba.so")
	w.program("/opt/q", usesA, "@/opt/real/liba.so", "-Wl,-rpath,/opt/view", "-Wl,--enable-new-dtags", "-Wl,--allow-shlib-undefined")
	w.agree("/opt/q", fails)
	w.link("/opt/real/libb.so", "/opt/view/libb.so")
	w.agree("/opt/q", starts)
}

func TestLibAndPlatform(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/x86_64-linux-gnu/liba.so", hasA)
	for _, token := range []string{"$LIB", "${LIB}"} {
		w.program("/opt/p", usesA, "@/opt/lib/x86_64-linux-gnu/liba.so", "-Wl,-rpath,$ORIGIN/"+token)
		w.agree("/opt/p", starts)
	}
	platform := w.diagnosed("dl_platform")
	w.change = func(l *system.Loader) { l.Platform = platform }
	w.lib("/opt/"+platform+"/libb.so", hasA)
	w.program("/opt/q", usesA, "@/opt/"+platform+"/libb.so", "-Wl,-rpath,/opt/${PLATFORM}")
	w.agree("/opt/q", starts)
}

func TestNeededPath(t *testing.T) {
	w := at(t, glibc)
	w.gcc("/opt/lib/liba.so", hasA, "-shared", "-fPIC", "-Wl,-soname,$ORIGIN/lib/liba.so")
	w.program("/opt/p", usesA, "@/opt/lib/liba.so")
	w.agree("/opt/p", starts)
}

func TestNeededBySoname(t *testing.T) {
	w := at(t, glibc)
	// libb.so isn't where anybody looks, but liba's RUNPATH led to a file of that soname.
	w.lib("/opt/one/libb.so", hasB)
	w.lib("/opt/two/libc1.so", "int b(void); int c(void){return b();}", "@/opt/one/libb.so")
	w.gcc("/opt/lib/libother.so", hasB, "-shared", "-fPIC", "-Wl,-soname,libb.so")
	w.must(w.copyFile("/opt/lib/libother.so", "/opt/lib/libx.so"))
	w.gcc("/opt/build/libx.so", hasB, "-shared", "-fPIC", "-Wl,-soname,libx.so")
	w.program("/opt/p", "int b(void); int c(void); int main(){return b()+c();}", "@/opt/build/libx.so", "@/opt/two/libc1.so",
		"-Wl,-rpath,/opt/lib:/opt/two", "-Wl,--unresolved-symbols=ignore-all")
	w.agree("/opt/p", starts)
}

func TestHWCaps(t *testing.T) {
	w := at(t, glibc)
	active := w.activeHWCaps()
	w.lib("/opt/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/opt/lib/liba.so", "-Wl,-rpath,/opt/lib")
	for _, h := range []string{"x86-64-v2", "x86-64-v3", "x86-64-v4"} {
		w.lib("/opt/lib/glibc-hwcaps/"+h+"/liba.so", hasA)
		w.agree("/opt/p", starts)
	}
	if len(active) > 0 { // a bad file there is fatal, good ones behind it or not
		w.write("/opt/lib/glibc-hwcaps/"+active[0]+"/liba.so", "nothing that a loader takes, and long enough to be looked at by one")
		r := w.agree("/opt/p", fails)
		w.problem(r, loader.BadLibrary)
	}
}

func TestOldHWCaps(t *testing.T) {
	w := at(t, glibc) // glibc 2.36 is the last that knows them
	w.activeHWCaps()
	platform := w.diagnosed("dl_platform")
	w.change = func(l *system.Loader) { l.Platform = platform }
	w.lib("/opt/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/opt/lib/liba.so", "-Wl,-rpath,/opt/lib")
	for _, sub := range []string{"x86_64", "haswell", "haswell/x86_64", "tls", "tls/x86_64", "tls/haswell",
		"tls/haswell/x86_64", "avx512_1", "haswell/avx512_1/x86_64", "tls/haswell/avx512_1/x86_64"} {
		w.lib("/opt/lib/"+sub+"/liba.so", hasA)
		w.agree("/opt/p", starts)
	}
}

func TestNoDefaultLibs(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so", "-Wl,-z,nodefaultlib", "-Wl,-rpath,/lib/x86_64-linux-gnu")
	w.agree("/opt/p", fails)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so", "-Wl,-z,nodefaultlib", "-Wl,-rpath,/lib/x86_64-linux-gnu:/usr/lib")
	w.agree("/opt/p", starts)
}

func TestBadFileEarlier(t *testing.T) {
	text := "/* GNU ld script, as developers have them beside libraries: longer than a header */ INPUT(liba.so.1)"
	for name, make := range map[string]func(w *world, p string){
		"text":      func(w *world, p string) { w.write(p, text) },
		"empty":     func(w *world, p string) { w.write(p, "") },
		"truncated": func(w *world, p string) { w.must(w.copyFile("/usr/lib/liba.so", p)); w.cut(p, 40) },
		"headless":  func(w *world, p string) { w.must(w.copyFile("/usr/lib/liba.so", p)); w.cut(p, 64) },
		"folder":    func(w *world, p string) { w.write(p+"/x", "") },
		"byte order": func(w *world, p string) {
			w.must(w.copyFile("/usr/lib/liba.so", p))
			w.patch(p, func(b []byte) []byte { b[5] = 2; return b })
		},
		"OS ABI": func(w *world, p string) {
			w.must(w.copyFile("/usr/lib/liba.so", p))
			w.patch(p, func(b []byte) []byte { b[7] = 9; return b })
		},
		"ABI version": func(w *world, p string) {
			w.must(w.copyFile("/usr/lib/liba.so", p))
			w.patch(p, func(b []byte) []byte { b[8] = 1; return b })
		},
		"object file": func(w *world, p string) { w.gcc(p, hasA, "-c") },
		"program":     func(w *world, p string) { w.gcc(p, "int main(){return 0;}", "-no-pie") },
		"PIE":         func(w *world, p string) { w.gcc(p, "int main(){return 0;}", "-pie") },
	} {
		t.Run(name, func(t *testing.T) {
			w := at(t, glibc)
			w.lib("/usr/lib/liba.so", hasA)
			w.program("/opt/p", usesA, "@/usr/lib/liba.so", "-Wl,-rpath,/opt/lib")
			make(w, "/opt/lib/liba.so")
			r := w.agree("/opt/p", fails)
			if p := w.problem(r, loader.BadLibrary); p.Bad != "/opt/lib/liba.so" || p.Reason == "" {
				t.Error(list(r))
			}
		})
	}
}

func TestSkippedFileEarlier(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"class":              func(b []byte) []byte { b[4] = 1; return b },
		"machine":            func(b []byte) []byte { b[18] = 183; return b },
		"class, broken too":  func(b []byte) []byte { b[4], b[5], b[7] = 1, 2, 9; return b[:100] },
		"machine, no header": func(b []byte) []byte { b[18] = 183; return b[:64] },
	} {
		t.Run(name, func(t *testing.T) {
			w := at(t, glibc)
			w.lib("/usr/lib/liba.so", hasA)
			w.program("/opt/p", usesA, "@/usr/lib/liba.so", "-Wl,-rpath,/opt/lib")
			w.must(w.copyFile("/usr/lib/liba.so", "/opt/lib/liba.so"))
			w.patch("/opt/lib/liba.so", change)
			w.agree("/opt/p", starts)
			w.remove("/usr/lib/liba.so")
			r := w.agree("/opt/p", fails)
			if p := w.problem(r, loader.MissingLibrary); p.Bad != "/opt/lib/liba.so" || p.Reason == "" {
				t.Error(list(r))
			}
		})
	}
}

func TestPreload(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/x/libx.so", hasA)
	w.lib("/opt/x/liba.so", usesB)
	w.program("/opt/p", usesA, "@/opt/x/liba.so", "-Wl,-rpath,/opt/x", "-Wl,--unresolved-symbols=ignore-all", "-Wl,-z,now")
	// What is preloaded may have what a library lacks.
	w.agree("/opt/p", later)
	w.lib("/opt/x/libpre.so", hasB)
	w.write("/etc/ld.so.preload", "/opt/x/libpre.so /opt/x/libnone.so\n")
	r := w.agree("/opt/p", starts)
	if p := w.problem(r, loader.MissingLibrary); !p.Harmless || p.Library != "/opt/x/libnone.so" {
		t.Error(list(r))
	}
}

func TestFilters(t *testing.T) {
	w := at(t, glibc)
	calls := "long write(int,const void*,long); int a(void); int b(void); int main(){write(1,\"MAIN\",4); return a()+b();}"
	w.lib("/usr/lib/liba.so", hasA+hasB)
	w.program("/opt/p", calls, "@/usr/lib/liba.so")
	for flag, without := range map[string]outcome{"-Wl,-f,": later, "-Wl,-F,": fails} {
		w.lib("/usr/lib/liba.so", hasA, flag+"libf.so")
		w.agree("/opt/p", without)
		w.lib("/usr/lib/libg.so", hasB)
		w.gcc("/usr/lib/libf.so", "int f;", "-shared", "-fPIC", "-Wl,-soname,libf.so", "-Wl,--no-as-needed", "@/usr/lib/libg.so")
		w.agree("/opt/p", starts) // it has b by way of what the filter needs
		w.remove("/usr/lib/libf.so")
		w.remove("/usr/lib/libg.so")
	}
}

// Before 2.36 a library for a newer kernel is passed over.
func TestLibraryForANewerKernel(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", `__asm__(".section .note.ABI-tag,\"a\",@note\n.p2align 2\n.long 4,16,1\n.asciz \"GNU\"\n.long 0,99,0,0\n.previous");`+hasA)
	if k := w.object("/usr/lib/liba.so").Kernel; k != [3]uint32{99} {
		t.Fatal(k)
	}
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.agree("/opt/p", starts)
	for _, c := range []struct {
		version string
		kernel  [3]uint32
		want    outcome
	}{
		{"2.31", [3]uint32{5, 10, 0}, fails},
		{"2.31", [3]uint32{}, starts}, // it isn't known
		{"2.31", [3]uint32{99}, starts},
		{"2.36", [3]uint32{5, 10, 0}, starts},
	} {
		old := changed{w.system, func(l *system.Loader) { l.Version = c.version }}
		r := loader.NewSession(old, c.kernel).Load(loader.Program{Path: "/opt/p", Object: w.object("/opt/p")})
		if told(r) != c.want {
			t.Errorf("glibc %s on %v: %s\n%s", c.version, c.kernel, told(r), list(r))
		}
	}
}
