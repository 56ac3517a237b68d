package loader_test

import (
	"bytes"
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/system"
)

const (
	one    = "map:V1 { global: *; };"
	oneTwo = "map:V1 { global: a; local: *; }; V2 { global: a; } V1;"
	// a@@V2, and a@V1 for who was linked earlier.
	hasA12 = `int a1(void){return 0;} int a2(void){return 0;} __asm__(".symver a1,a@V1"); __asm__(".symver a2,a@@V2");`
)

func TestVersionMissing(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA12, oneTwo)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.agree("/opt/p", starts)
	w.lib("/usr/lib/liba.so", hasA, one)
	r := w.agree("/opt/p", fails)
	if p := w.problem(r, loader.MissingVersion); p.Version != "V2" || p.Library != "liba.so" || p.Found == nil || p.Found.Name != "/lib/liba.so" {
		t.Error(list(r))
	}
	// A version is missed though nothing that is called has it.
	w.program("/opt/q", "int a(void); int b(void); int (*keep)(void) = 0; int main(){ if(keep) return a(); return 0;}", "@/usr/lib/liba.so")
	w.agree("/opt/q", starts)
}

func TestOlderVersionIsKept(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA, one)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.lib("/usr/lib/liba.so", hasA12, oneTwo)
	w.agree("/opt/p", starts)
	// The version is there, and its symbol isn't.
	w.lib("/usr/lib/liba.so", "int a2(void){return 0;} int x(void){return 0;} __asm__(\".symver a2,a@@V2\");",
		"map:V1 { global: x; local: *; }; V2 { global: a2; } V1;")
	if p := w.problem(w.agree("/opt/p", later), loader.MissingSymbol); p.Symbol != "a" || p.Version != "V1" || p.Found == nil {
		t.Error(p)
	}
}

func TestWeakVersion(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA12, oneTwo)
	w.program("/opt/p", "int a(void) __attribute__((weak)); int main(){return a ? a() : 0;}", "-Wl,--no-as-needed", "@/usr/lib/liba.so")
	w.weakenVersions("/opt/p", "V2")
	w.lib("/usr/lib/liba.so", hasA, one)
	if p := w.problem(w.agree("/opt/p", starts), loader.MissingVersion); !p.Harmless {
		t.Error(p)
	}
}

// weakenVersions marks the needs of a version as weak, as newer linkers do where only weak
// symbols have it.
func (w *world) weakenVersions(p, version string) {
	w.Helper()
	o := w.object(p)
	for _, r := range o.Requirements {
		for _, v := range r.Versions {
			if v.Name == version && v.Weak {
				return
			}
		}
	}
	hash := make([]byte, 4)
	var h uint32
	for _, c := range []byte(version) {
		h = h<<4 + uint32(c)
		h = (h ^ h&0xf0000000>>24) &^ 0xf0000000
	}
	for i := range hash {
		hash[i] = byte(h >> (8 * i))
	}
	w.patch(p, func(b []byte) []byte {
		i := bytes.Index(b, append(hash, 0, 0))
		if i < 0 {
			w.Fatalf("%s needs no %s", p, version)
		}
		b[i+4] = 2 // VER_FLG_WEAK
		return b
	})
}

func TestNoVersionsAnyMore(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA, one)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	// Its own versions are gone, and it still needs those of others: only a warning.
	w.lib("/usr/lib/liba.so", "long write(int,const void*,long); int a(void){write(1,\"\",0);return 0;}", "-lc")
	if p := w.problem(w.agree("/opt/p", starts), loader.MissingVersion); !p.Harmless {
		t.Error(p)
	}
	// Without any trace of versions the loader gives up (before 2.41).
	w.lib("/usr/lib/liba.so", hasA, "-nostdlib")
	w.agree("/opt/p", later)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.agree("/opt/p", starts)
}

func TestUnversionedReference(t *testing.T) {
	for name, c := range map[string]struct {
		source, versions string
		want             outcome
	}{
		"the only one":            {hasA, one, starts},
		"the oldest, hidden":      {hasA12, oneTwo, starts},
		"a newer one, default":    {"int x(void){return 0;} int a2(void){return 0;} __asm__(\".symver a2,a@@V2\");", "map:V1 { global: x; local: *; }; V2 { global: a2; } V1;", starts},
		"a newer one, hidden":     {"int x(void){return 0;} int a2(void){return 0;} __asm__(\".symver a2,a@V2\");", "map:V1 { global: x; local: *; }; V2 { global: a2; } V1;", later},
		"no default, none oldest": {"int x(void){return 0;} int a2(void){return 0;} int a3(void){return 0;} __asm__(\".symver a2,a@V2\"); __asm__(\".symver a3,a@V3\");", "map:V1 { global: x; local: *; }; V2 { global: a2; } V1; V3 { global: a3; } V2;", later},
	} {
		t.Run(name, func(t *testing.T) {
			w := at(t, glibc)
			w.lib("/usr/lib/liba.so", hasA)
			w.program("/opt/p", usesA, "@/usr/lib/liba.so")
			w.lib("/usr/lib/liba.so", c.source, c.versions)
			w.agree("/opt/p", c.want)
		})
	}
}

func TestVersionMovedToAnotherFile(t *testing.T) {
	w := at(t, glibc) // from 2.30 on, what counts is the version, not its file
	w.lib("/usr/lib/libb.so", "int b(void){return 0;}", "map:V1 { global: *; };")
	w.lib("/usr/lib/liba.so", hasA, one)
	w.program("/opt/p", "int a(void); int b(void); int main(){b(); return a();}", "@/usr/lib/liba.so", "@/usr/lib/libb.so")
	w.lib("/usr/lib/liba.so", "int x(void){return 0;}", one)
	w.lib("/usr/lib/libb.so", "int a(void){return 0;} int b(void){return 0;}", one)
	w.agree("/opt/p", starts)
	w.change = func(l *system.Loader) { l.Version = "2.28" }
	_, r := w.judge("/opt/p")
	w.problem(r, loader.MissingSymbol)
}

func TestMissingSymbols(t *testing.T) {
	for name, c := range map[string]struct {
		source, call string
		args         []string
		want         outcome
	}{
		"a call":                {"int none(void);", "none()", []string{"-Wl,-z,lazy"}, later},
		"a call under BIND_NOW": {"int none(void);", "none()", []string{"-Wl,-z,now"}, fails},
		"an address":            {"int none(void); int (*keep)(void) = none;", "0", nil, fails},
		"data":                  {"extern int data; int *keep = &data;", "0", nil, fails},
		"a weak call":           {"int none(void) __attribute__((weak));", "none ? none() : 0", nil, starts},
		"a weak address":        {"int none(void) __attribute__((weak)); int (*keep)(void) = none;", "0", nil, starts},
	} {
		t.Run(name, func(t *testing.T) {
			w := at(t, glibc)
			full := "int none(void){return 0;} int data;" + hasA
			w.lib("/usr/lib/libn.so", full)
			source := c.source + "long write(int,const void*,long); int main(){write(1,\"MAIN\",4); return " + c.call + ";}"
			w.program("/opt/p", source, append(c.args, "@/usr/lib/libn.so")...)
			// And the same need of a library.
			w.lib("/usr/lib/liba.so", c.source+"int a(void){return "+c.call+";}", append(c.args, "@/usr/lib/libn.so")...)
			w.program("/opt/q", usesA, "@/usr/lib/liba.so")
			w.agree("/opt/p", starts)
			w.agree("/opt/q", starts)
			w.lib("/usr/lib/libn.so", hasB)
			w.agree("/opt/p", c.want)
			w.agree("/opt/q", c.want)
		})
	}
}

func TestCopyOfAnotherSize(t *testing.T) {
	for name, size := range map[string]string{"smaller": "4", "same": "16", "larger": "64"} {
		t.Run(name, func(t *testing.T) {
			w := at(t, glibc)
			w.lib("/usr/lib/liba.so", "char data[16] = {1};")
			w.gcc("/opt/p", "extern char data[16]; int main(){return data[0] != 1;}", "-no-pie", "-fno-pic", "@/usr/lib/liba.so")
			w.lib("/usr/lib/liba.so", "char data["+size+"] = {1};")
			r := w.agree("/opt/p", starts)
			if name == "same" {
				if len(r.Problems) > 0 {
					t.Error(list(r))
				}
				return
			}
			if p := w.problem(r, loader.CopySize); p.Want != 16 || p.Have == 16 || p.Symbol != "data" || !p.Harmless {
				t.Error(list(r))
			}
		})
	}
}

func TestCopyOfNothing(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", "char data[16] = {1};")
	w.gcc("/opt/p", "extern char data[16]; int main(){return data[0] != 1;}", "-no-pie", "-fno-pic", "@/usr/lib/liba.so")
	w.lib("/usr/lib/liba.so", "char other[16] = {1};")
	w.problem(w.agree("/opt/p", fails), loader.MissingSymbol)
}

func TestRELR(t *testing.T) {
	w := at(t, glibc)
	source := "int x; int *keep[64] = {&x,&x,&x,&x,&x,&x,&x,&x}; int main(){return *keep[3];}"
	w.program("/opt/p", source, "-pie", "-Wl,-z,pack-relative-relocs")
	w.agree("/opt/p", starts)
	// Older C libraries don't define the version. (The other name's hash is the same.)
	w.patch("/lib/x86_64-linux-gnu/libc.so.6", func(b []byte) []byte {
		return bytes.Replace(b, []byte("GLIBC_ABI_DT_RELR\x00"), []byte("GLIBC_ABI_DT_REMB\x00"), 1)
	})
	if p := w.problem(w.agree("/opt/p", fails), loader.MissingVersion); p.Version != "GLIBC_ABI_DT_RELR" {
		t.Error(p)
	}
}

func TestRELRWithoutItsVersion(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", "static int x; int *keep[64] = {&x,&x,&x,&x,&x,&x,&x,&x}; int a(void){return *keep[3];}",
		"-nostdlib", "-Wl,-z,pack-relative-relocs")
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.agree("/opt/p", starts) // it needs no C library, and so needs not say that it takes RELR
	w.change = func(l *system.Loader) { l.Version = "2.31" }
	w.patch("/lib/x86_64-linux-gnu/libc.so.6", func(b []byte) []byte {
		return bytes.Replace(b, []byte("GLIBC_ABI_DT_RELR\x00"), []byte("GLIBC_ABI_DT_REMB\x00"), 1)
	})
	_, r := w.judge("/opt/p")
	w.problem(r, loader.BadRELR)
}
