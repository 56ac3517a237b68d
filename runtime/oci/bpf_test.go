package oci

import (
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// call is what the kernel shows a filter: struct seccomp_data.
type call struct {
	number, audit uint32
	args          [6]uint64
}

// run is the kernel's interpreter, as far as seccomp(2) lets filters use it.
func run(t *testing.T, program []unix.SockFilter, c call) uint32 {
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		branch := func(yes bool) {
			if pc += int(in.Jf); yes {
				pc += int(in.Jt) - int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch {
			case in.K == offsetNumber:
				acc = c.number
			case in.K == offsetArch:
				acc = c.audit
			default:
				acc = uint32(c.args[(in.K-offsetArgs)/8] >> (in.K % 8 * 8))
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(acc > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(acc >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, in.Code)
		}
	}
	t.Fatal("the program runs past its end")
	return 0
}

// want is what the filter's rules say, read one by one.
func want(t *testing.T, f *specs.LinuxSeccomp, names map[uint32]string, c call) uint32 {
	t.Helper()
	said := func(action specs.LinuxSeccompAction, errno *uint) uint32 {
		code, err := answer(action, errno)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	best, tests := said(f.DefaultAction, f.DefaultErrnoRet), -1
	for _, s := range f.Syscalls {
		for _, name := range s.Names {
			if name == names[c.number] && len(s.Args) > tests && hold(s.Args, c) {
				best, tests = said(s.Action, s.ErrnoRet), len(s.Args)
			}
		}
	}
	return best
}

func hold(tests []specs.LinuxSeccompArg, c call) bool {
	for _, a := range tests {
		v, ok := c.args[a.Index], false
		switch a.Op {
		case specs.OpEqualTo:
			ok = v == a.Value
		case specs.OpNotEqual:
			ok = v != a.Value
		case specs.OpMaskedEqual:
			ok = v&a.Value == a.ValueTwo
		case specs.OpGreaterThan:
			ok = v > a.Value
		case specs.OpGreaterEqual:
			ok = v >= a.Value
		case specs.OpLessThan:
			ok = v < a.Value
		case specs.OpLessEqual:
			ok = v <= a.Value
		}
		if !ok {
			return false
		}
	}
	return true
}

// agree asks for every number, with arguments around those that the filter tests.
func agree(t *testing.T, f *specs.LinuxSeccomp, random *rand.Rand) {
	t.Helper()
	program, err := compile(f)
	if err != nil {
		t.Fatal(err)
	}
	values := []uint64{0, 1, 1 << 32, 1<<64 - 1, random.Uint64()}
	for _, s := range f.Syscalls {
		for _, a := range s.Args {
			values = append(values, a.Value, a.Value+1, a.Value-1, a.ValueTwo, a.Value|1<<40, a.Value^1<<63)
		}
	}
	for _, arch := range f.Architectures {
		names := map[uint32]string{}
		for name, n := range abis[arch].numbers() {
			names[n] = name
		}
		numbers := []uint32{600, 1000, 1 << 30, 1<<30 | 1, 1<<32 - 1, 0xf0000, 0xf0009}
		for n := range uint32(480) {
			numbers = append(numbers, n)
		}
		for _, n := range numbers {
			for range 8 {
				c := call{number: n, audit: abis[arch].audit}
				for i := range c.args {
					c.args[i] = values[random.IntN(len(values))]
				}
				if got, want := run(t, program, c), want(t, f, names, c); got != want {
					t.Fatalf("%s, %s (%d) with %#x: %#x, want %#x", arch, names[n], n, c.args, got, want)
				}
			}
		}
	}
	if got := run(t, program, call{audit: unix.AUDIT_ARCH_S390X}); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("another architecture gets %#x", got)
	}
}

// The filter of a session, for root and for others, answers as its rules say.
func TestCompile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, uid := range []uint32{0, 1000} {
		s, err := runtime.OCI(runtime.Spec{Name: "acme@1", Command: []string{"true"}, UID: uid}, runtime.Placement{})
		if err != nil {
			t.Fatal(err)
		}
		agree(t, s.Linux.Seccomp, random)
	}
}

// Any filter does.
func TestCompileRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	arches := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchAARCH64, specs.ArchARM}
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan,
		specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual}
	var all []string
	for name := range abis[specs.ArchX86].numbers() {
		all = append(all, name)
	}
	for range 40 {
		f := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		random.Shuffle(len(arches), func(i, j int) { arches[i], arches[j] = arches[j], arches[i] })
		f.Architectures = arches[:1+random.IntN(len(arches))]
		seen := map[string]int{} // rules that are equally exact have no order
		for range random.IntN(30) {
			code := uint(random.IntN(200))
			s := specs.LinuxSyscall{Action: specs.ActErrno, ErrnoRet: &code}
			for range random.IntN(3) {
				a := specs.LinuxSeccompArg{Index: uint(random.IntN(6)), Op: ops[random.IntN(len(ops))], Value: random.Uint64() >> random.IntN(64)}
				a.ValueTwo = a.Value & random.Uint64()
				s.Args = append(s.Args, a)
			}
			for range 1 + random.IntN(5) {
				if name := all[random.IntN(len(all))]; seen[name]&(1<<len(s.Args)) == 0 {
					seen[name] |= 1 << len(s.Args)
					s.Names = append(s.Names, name)
				}
			}
			f.Syscalls = append(f.Syscalls, s)
		}
		agree(t, f, random)
	}
}

// The table of the architecture that this was built for is the one the compiler knows.
func TestNumbers(t *testing.T) {
	for name, number := range map[string]uint32{"read": unix.SYS_READ, "clone3": unix.SYS_CLONE3, "openat2": unix.SYS_OPENAT2,
		"statx": unix.SYS_STATX, "mount": unix.SYS_MOUNT, "futex_waitv": unix.SYS_FUTEX_WAITV, "seccomp": unix.SYS_SECCOMP} {
		if got := native(t).numbers()[name]; got != number {
			t.Errorf("%s is %d, want %d", name, got, number)
		}
	}
}

func native(t *testing.T) abi {
	s, err := runtime.OCI(runtime.Spec{Name: "acme@1", Command: []string{"true"}}, runtime.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	return abis[s.Linux.Seccomp.Architectures[0]]
}

func BenchmarkCompile(b *testing.B) {
	s, err := runtime.OCI(runtime.Spec{Name: "acme@1", Command: []string{"true"}}, runtime.Placement{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := compile(s.Linux.Seccomp); err != nil {
			b.Fatal(err)
		}
	}
}
