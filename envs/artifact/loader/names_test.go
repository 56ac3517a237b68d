package loader_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/stead-env/stead/envs/artifact/loader"
)

func TestVersionsOfAnotherName(t *testing.T) {
	// The name that versions are needed of has to be one that was asked for: here it is
	// only the library's soname. Programs are patched to such a state.
	w := at(t, glibc)
	w.lib("/usr/lib/liba.so", hasA, one)
	w.program("/opt/p", usesA, "@/usr/lib/liba.so")
	w.shortenNeeded("/opt/p", "liba.so", 2)
	w.gcc("/usr/lib/ba.so", hasA, "-shared", "-fPIC", "-Wl,-soname,liba.so", one)
	r := w.agree("/opt/p", fails)
	if p := w.problem(r, loader.MissingVersion); p.Library != "liba.so" || p.Found != nil {
		t.Error(list(r))
	}
	// Once a library asks for it by that name, all is well.
	w.gcc("/usr/lib/ba.so", "int b(void); int a(void){return b();}", "-shared", "-fPIC", "-Wl,-soname,liba.so", one, "-Wl,--no-as-needed", "@/usr/lib/liba.so")
	w.agree2("/opt/p", later, later)
}

// shortenNeeded takes some bytes off the beginning of a name that a file needs.
func (w *world) shortenNeeded(p, name string, by uint64) {
	w.Helper()
	w.patch(p, func(b []byte) []byte {
		f, err := elf.NewFile(bytes.NewReader(b))
		w.must(err)
		strs, err := f.Section(".dynstr").Data()
		w.must(err)
		at := f.Section(".dynamic").Offset
		for ; ; at += 16 {
			tag, value := elf.DynTag(binary.LittleEndian.Uint64(b[at:])), binary.LittleEndian.Uint64(b[at+8:])
			if tag == elf.DT_NULL {
				w.Fatalf("%s needs no %s", p, name)
			}
			if tag == elf.DT_NEEDED && bytes.HasPrefix(strs[value:], []byte(name+"\x00")) {
				binary.LittleEndian.PutUint64(b[at+8:], value+by)
				return b
			}
		}
	})
}

func TestTheSameFileByTwoNames(t *testing.T) {
	w := at(t, glibc)
	w.lib("/opt/lib/liba.so", hasA)
	w.link("liba.so", "/opt/lib/libalias.so")
	w.gcc("/build/libalias.so", hasB, "-shared", "-fPIC", "-Wl,-soname,libalias.so")
	w.program("/opt/p", "int a(void); int b(void); volatile int never; int main(){return never ? b() : a();}",
		"@/opt/lib/liba.so", "@/build/libalias.so", "-Wl,-rpath,/opt/lib")
	r := w.agree2("/opt/p", later, starts)
	if len(r.Objects) != 4 { // the program, liba, libc, ld.so
		t.Errorf("%d objects", len(r.Objects))
	}
}

func TestSonameOfWhatIsLoaded(t *testing.T) {
	w := at(t, glibc)
	// libother.so says that it is libb.so: who needs that later has it.
	w.gcc("/opt/lib/libother.so", hasB, "-shared", "-fPIC", "-Wl,-soname,libb.so")
	w.gcc("/build/libother.so", hasB, "-shared", "-fPIC", "-Wl,-soname,libother.so")
	w.lib("/build/libb.so", hasB)
	w.lib("/opt/lib/liba.so", usesB, "@/build/libb.so")
	w.program("/opt/p", "int a(void); int b(void); int main(){return a()+b();}", "@/build/libother.so", "@/opt/lib/liba.so",
		"-Wl,-rpath,/opt/lib")
	w.agree("/opt/p", starts)
	w.remove("/opt/lib/libother.so")
	w.gcc("/opt/lib/libother.so", hasB, "-shared", "-fPIC", "-Wl,-soname,libother.so")
	if p := w.problem(w.agree("/opt/p", fails), loader.MissingLibrary); p.Library != "libb.so" {
		t.Error(p)
	}
}

func TestTheLoaderAsALibrary(t *testing.T) {
	w := at(t, glibc)
	w.program("/opt/p", "extern void *__tls_get_addr; int main(){return 0;}", "-Wl,--no-as-needed", "@/lib64/ld-linux-x86-64.so.2")
	w.agree("/opt/p", starts)
}
