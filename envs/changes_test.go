package envs

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
)

func TestKernelChanges(t *testing.T) {
	old := &lock.Kernel{SystemCalls: []string{"acct", "read", "write"}}
	newer := &lock.Kernel{Version: "Linux version 6.1", SystemCalls: []string{"clone3", "openat2", "read", "statx", "write"}}
	for _, test := range []struct {
		a, b *lock.Kernel
		want string
	}{
		{old, old, ""},
		{nil, nil, ""},
		{nil, &lock.Kernel{Version: "Linux version 6.1"}, ""},
		{old, newer, "kernel: 3 system calls more, 1 fewer"},
		{nil, old, "kernel: 3 system calls, which weren't known before"},
		{old, nil, "kernel: its system calls aren't known any more"},
	} {
		got := Changes(&lock.Lock{Kernel: test.a}, &lock.Lock{Kernel: test.b})
		if has := strings.Contains(got, "kernel"); has != (test.want != "") || !strings.Contains(got, test.want) {
			t.Errorf("%v, %v: %s", test.a, test.b, got)
		}
	}
}
