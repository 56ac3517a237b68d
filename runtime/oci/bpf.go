package oci

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The parts of struct seccomp_data: seccomp(2).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16 // 64 bits each, the low half first
)

// compile translates a filter to the kernel's classic BPF: a search by halves for the
// number of the call, and tests of its arguments where a rule has some. A rule whose
// tests hold comes before one without any.
func compile(f *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	standard, err := answer(f.DefaultAction, f.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	var program []unix.SockFilter
	for _, arch := range f.Architectures {
		a, ok := abis[arch]
		if !ok {
			return nil, fmt.Errorf("no table of system calls for %s", arch)
		}
		rules, err := rulesOf(f, a)
		if err != nil {
			return nil, err
		}
		body := search(spans(rules, standard))
		program = append(program, load(offsetArch), jump(unix.BPF_JEQ, a.audit, 1, 0), always(len(body)+1), load(offsetNumber))
		program = append(program, body...)
	}
	program = append(program, end(unix.SECCOMP_RET_KILL_PROCESS)) // another way of calling
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("it takes %d instructions, more than the kernel does", len(program))
	}
	return program, nil
}

// answer is what the filter returns for an action.
func answer(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	code := uint32(unix.EPERM)
	if errno != nil {
		code = uint32(*errno)
	}
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | code&unix.SECCOMP_RET_DATA, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("action %s is not known", action)
}

// rule is what is answered to one system call when all tests of its arguments hold.
type rule struct {
	tests  []specs.LinuxSeccompArg
	answer uint32
}

// rulesOf are the rules for the calls that an architecture has, by their numbers.
func rulesOf(f *specs.LinuxSeccomp, a abi) (map[uint32][]rule, error) {
	numbers, rules := a.numbers(), map[uint32][]rule{}
	for _, s := range f.Syscalls {
		r := rule{tests: s.Args}
		var err error
		if r.answer, err = answer(s.Action, s.ErrnoRet); err != nil {
			return nil, err
		}
		for _, name := range s.Names {
			if n, ok := numbers[name]; ok {
				rules[n] = append(rules[n], r)
			}
		}
	}
	return rules, nil
}

// span is a run of numbers to which the same is done, up to the next span.
type span struct {
	from uint32
	code []unix.SockFilter
}

// spans are all numbers there are, in order.
func spans(rules map[uint32][]rule, standard uint32) []span {
	var numbers []uint32
	for n := range rules {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var list []span
	add := func(from uint32, code []unix.SockFilter) {
		if len(list) == 0 || !slices.Equal(list[len(list)-1].code, code) {
			list = append(list, span{from, code})
		}
	}
	next := uint32(0)
	for _, n := range numbers {
		if n > next {
			add(next, []unix.SockFilter{end(standard)})
		}
		add(n, judge(rules[n], standard))
		next = n + 1
	}
	add(next, []unix.SockFilter{end(standard)})
	return list
}

// search finds the span of the loaded number by halves.
func search(list []span) []unix.SockFilter {
	if len(list) == 1 {
		return list[0].code
	}
	middle := len(list) / 2
	low, high := search(list[:middle]), search(list[middle:])
	var code []unix.SockFilter
	if len(low) < 256 {
		code = append(code, jump(unix.BPF_JGE, list[middle].from, uint8(len(low)), 0))
	} else {
		code = append(code, jump(unix.BPF_JGE, list[middle].from, 0, 1), always(len(low)))
	}
	return append(append(code, low...), high...)
}

// judge answers one call by its rules.
func judge(rules []rule, standard uint32) []unix.SockFilter {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(len(b.tests), len(a.tests)) })
	var code []unix.SockFilter
	for _, r := range rules {
		if len(r.tests) == 0 {
			return append(code, end(r.answer))
		}
		// Behind the tests stands the answer; a test that doesn't hold goes past it.
		part := []unix.SockFilter{end(r.answer)}
		for _, t := range slices.Backward(r.tests) {
			part = append(test(t, len(part)), part...)
		}
		code = append(code, part...)
	}
	return append(code, end(standard))
}

// test goes on behind itself when an argument is as it has to be, and past that many
// instructions more when it isn't. Both halves of the argument count.
func test(t specs.LinuxSeccompArg, past int) []unix.SockFilter {
	at := uint32(offsetArgs + 8*t.Index)
	low, high := uint32(t.Value), uint32(t.Value>>32)
	no := uint8(past)
	switch t.Op {
	case specs.OpEqualTo:
		return []unix.SockFilter{load(at + 4), jump(unix.BPF_JEQ, high, 0, no+2), load(at), jump(unix.BPF_JEQ, low, 0, no)}
	case specs.OpNotEqual:
		return []unix.SockFilter{load(at + 4), jump(unix.BPF_JEQ, high, 0, 2), load(at), jump(unix.BPF_JEQ, low, no, 0)}
	case specs.OpMaskedEqual:
		return []unix.SockFilter{
			load(at + 4), and(high), jump(unix.BPF_JEQ, uint32(t.ValueTwo>>32), 0, no+3),
			load(at), and(low), jump(unix.BPF_JEQ, uint32(t.ValueTwo), 0, no),
		}
	case specs.OpGreaterThan:
		return compare(at, high, low, unix.BPF_JGT, no, false)
	case specs.OpGreaterEqual:
		return compare(at, high, low, unix.BPF_JGE, no, false)
	case specs.OpLessThan:
		return compare(at, high, low, unix.BPF_JGE, no, true)
	case specs.OpLessEqual:
		return compare(at, high, low, unix.BPF_JGT, no, true)
	}
	return []unix.SockFilter{always(past)} // never holds
}

// compare holds when the argument is greater (or, by op, equal); negated, when not.
func compare(at, high, low uint32, op uint16, no uint8, negated bool) []unix.SockFilter {
	code := []unix.SockFilter{
		load(at + 4), jump(unix.BPF_JGT, high, 3, 0), jump(unix.BPF_JEQ, high, 0, no+2), load(at), jump(op, low, 0, no),
	}
	if negated {
		code[1], code[2], code[4] = jump(unix.BPF_JGT, high, no+3, 0), jump(unix.BPF_JEQ, high, 0, 2), jump(op, low, no, 0)
	}
	return code
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func and(mask uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func always(past int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(past)}
}

func end(answer uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: answer}
}
