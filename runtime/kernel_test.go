package runtime

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ruled are the calls that a filter has rules for.
func ruled(f *specs.LinuxSeccomp) map[string]bool {
	names := map[string]bool{}
	for _, rule := range f.Syscalls {
		for _, name := range rule.Names {
			names[name] = true
		}
	}
	return names
}

func filterFor(t *testing.T, k *Kernel, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	f, err := seccompFilter(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}, k, true)
	if err != nil {
		t.Fatal(err)
	}
	if f.DefaultAction != specs.ActErrno || f.DefaultErrnoRet == nil || *f.DefaultErrnoRet != uint(unix.ENOSYS) {
		t.Errorf("what has no rule gets %v, %v", f.DefaultAction, f.DefaultErrnoRet)
	}
	return f
}

// Nothing that the kernel lacks has a rule, whoever runs: not those that the profile
// handles by their arguments, nor those that it refuses.
func TestKernelFilter(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"}} {
		own := ruled(filterFor(t, nil, caps...))
		k := &Kernel{Release: "3.10.0", Syscalls: []string{"chroot", "clone", "nosuch", "personality", "read", "socket", "write"}}
		got := ruled(filterFor(t, k, caps...))
		for name := range got {
			if !own[name] {
				t.Errorf("%v: %s is allowed, and isn't without the kernel", caps, name)
			}
			if !slices.Contains(k.Syscalls, name) && !slices.Contains(started, name) && !slices.Contains(private, name) {
				t.Errorf("%v: %s has a rule", caps, name)
			}
		}
		for _, name := range k.Syscalls {
			if got[name] != own[name] {
				t.Errorf("%v: %s has a rule: %v, want %v", caps, name, got[name], own[name])
			}
		}
	}
	all := filterFor(t, nil)
	if none := filterFor(t, &Kernel{Release: "3.10.0"}); len(ruled(none)) != len(ruled(all)) {
		t.Error("a kernel without a list limits calls")
	}
	if len(all.Architectures) == 0 {
		t.Error("the filter names no architectures")
	}
}

// What has arguments to look at keeps its rules.
func TestKernelFilterArguments(t *testing.T) {
	count := func(k *Kernel) (rules int) {
		for _, rule := range filterFor(t, k).Syscalls {
			if slices.Contains(rule.Names, "personality") && len(rule.Args) > 0 {
				rules++
			}
		}
		return rules
	}
	if own, got := count(nil), count(&Kernel{Syscalls: []string{"personality"}}); own == 0 || got != own {
		t.Errorf("%d rules for personality, want %d", got, own)
	}
}

func TestRefuseKernel(t *testing.T) {
	if err := RefuseKernel(Spec{}, "chroot"); err != nil {
		t.Error(err)
	}
	err := RefuseKernel(Spec{Name: "acme@1", Kernel: &Kernel{}}, "chroot")
	if e, ok := err.(*Error); !ok || e.Hint() == "" || e.Code != CodeEngine {
		t.Errorf("got %v", err)
	}
}
