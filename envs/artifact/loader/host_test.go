package loader_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// programs are those of this machine.
func programs(t testing.TB) (list []loader.Program) {
	for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
		names, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range names {
			f, err := os.Open(p)
			if err != nil {
				continue
			}
			info, err := f.Stat()
			if err == nil && info.Mode().IsRegular() {
				if o, err := object.Read(f, info.Size()); err == nil && o.Interp != "" && o.Machine == elf.EM_X86_64 {
					list = append(list, loader.Program{Path: p, Object: o})
				}
			}
			f.Close()
		}
	}
	return list
}

func live(t testing.TB) *system.Live {
	sys, err := system.OpenLive("/", system.LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Close() })
	return sys
}

// What is installed starts where it is installed, or its own loader says the same. What is
// remembered of one program must not change the next one's answer.
func TestThisMachine(t *testing.T) {
	sys := live(t)
	all := programs(t)
	if len(all) < 100 {
		t.Fatalf("only %d programs", len(all))
	}
	shared := loader.NewSession(sys, [3]uint32{})
	var g errgroup.Group
	g.SetLimit(4)
	for _, p := range all {
		g.Go(func() error {
			r := shared.Load(p)
			if alone := loader.NewSession(sys, [3]uint32{}).Load(p); list(r) != list(alone) {
				t.Errorf("%s: %s, and among others: %s", p.Path, list(alone), list(r))
			}
			if told(r) == starts {
				return nil
			}
			cmd := exec.Command(p.Path)
			cmd.Env = []string{"LD_TRACE_LOADED_OBJECTS=1", "LD_WARN=1", "LD_BIND_NOW=1"}
			out, _ := cmd.CombinedOutput()
			if !bytes.Contains(out, []byte("not found")) && !bytes.Contains(out, []byte("undefined symbol")) {
				t.Errorf("%s: %s\n%sthe loader here: %s", p.Path, told(r), list(r), out)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// Many programs, one after the other, on a system whose libraries were read before.
func BenchmarkPrograms(b *testing.B) {
	sys := live(b)
	all := programs(b)
	warm := loader.NewSession(sys, [3]uint32{})
	for _, p := range all {
		warm.Load(p)
	}
	for b.Loop() {
		s := loader.NewSession(sys, [3]uint32{})
		for _, p := range all {
			s.Load(p)
		}
	}
	b.ReportMetric(float64(len(all)), "programs")
}
