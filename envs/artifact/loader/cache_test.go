package loader_test

import (
	"os/exec"
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
)

// ldconfig makes the root's /etc/ld.so.cache.
func (w *world) ldconfig(dirs string) {
	w.Helper()
	w.write("/etc/ld.so.conf", dirs)
	if out, err := exec.Command("/sbin/ldconfig", "-X", "-r", w.root).CombinedOutput(); err != nil {
		w.Fatalf("ldconfig: %v\n%s", err, out)
	}
}

func TestCache(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/opt/lib/liba.so")
	w.ldconfig("/opt/other\n")
	w.agree("/opt/p", fails)
	w.write("/etc/ld.so.conf", "/opt/lib\n") // nobody but ldconfig reads it
	w.agree("/opt/p", fails)
	w.ldconfig("/opt/lib\n")
	w.agree("/opt/p", starts)
	// What is in it comes before the system folders.
	w.lib("/usr/lib/liba.so", hasA)
	w.agree("/opt/p", starts)
	// It is out of date, and names a file that is gone.
	w.remove("/opt/lib/liba.so")
	w.agree("/opt/p", starts)
	w.write("/opt/lib/liba.so", "text where a library was: this is where the start ends, good files behind or not")
	w.problem(w.agree("/opt/p", fails), loader.BadLibrary)
}

func TestCacheAndNoDefaultLibs(t *testing.T) {
	w := at(t, glibc)
	w.lib("/usr/lib/more/liba.so", hasA)
	w.lib("/opt/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/opt/lib/liba.so", "-Wl,-z,nodefaultlib", "-Wl,-rpath,/lib/x86_64-linux-gnu")
	w.ldconfig("/opt/lib\n")
	w.agree("/opt/p", starts)
	w.ldconfig("/usr/lib/more\n/opt/lib\n") // the first of a name hides the others
	w.agree("/opt/p", fails)
}

func TestHWCapsInTheCache(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/liba.so", hasA)
	w.program("/opt/p", usesA, "@/opt/lib/liba.so")
	w.ldconfig("/opt/lib\n")
	w.agree("/opt/p", starts)
	w.activeHWCaps()
	for _, h := range []string{"x86-64-v2", "x86-64-v4", "x86-64-v3"} {
		w.lib("/opt/lib/glibc-hwcaps/"+h+"/liba.so", hasA)
		w.ldconfig("/opt/lib\n")
		w.agree("/opt/p", starts)
	}
}

func TestCacheOfTwoClasses(t *testing.T) {
	w := at(t, glibc32, glibc)
	at2(w, glibc).lib("/opt/wide/liba.so", hasA)
	w.lib("/opt/narrow/liba.so", hasA)
	w.program("/opt/p", freeA, "@/opt/narrow/liba.so")
	at2(w, glibc).program("/opt/q", usesA, "@/opt/wide/liba.so")
	for _, order := range []string{"/opt/wide\n/opt/narrow\n", "/opt/narrow\n/opt/wide\n"} {
		w.ldconfig(order)
		w.agree("/opt/p", starts)
		at2(w, glibc).agree("/opt/q", starts)
	}
	w.remove("/opt/narrow/liba.so")
	w.ldconfig("/opt/wide\n/opt/narrow\n")
	w.agree("/opt/p", fails)
}
