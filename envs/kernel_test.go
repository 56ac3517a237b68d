package envs

import (
	"errors"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// planFor is a session that is to see the kernel of a host.
func planFor(t *testing.T, host lock.Host, kernel *lock.Kernel, notes *[]string) *sessionPlan {
	t.Helper()
	header, err := lock.ReadHeader((&lock.Lock{Version: lock.Version, Release: lock.Release{Target: "acme", Number: 3},
		Host: host, Kernel: kernel}).Write())
	if err != nil {
		t.Fatal(err)
	}
	return &sessionPlan{env: Made{Release: Release{Target: "acme", Number: 3}, Host: host, Header: header},
		SessionOptions: SessionOptions{Settings: Settings{Kernel: OfTarget},
			Progress: func(e snapshot.Event) { *notes = append(*notes, e.Note) }}}
}

func TestTargetKernel(t *testing.T) {
	const release, version = "3.10.0-1160.el7.x86_64", "Linux version 3.10.0-1160.el7.x86_64 (builder) #1 SMP"
	own := goruntime.GOARCH
	for name, test := range map[string]struct {
		host   lock.Host
		kernel *lock.Kernel
		check  func(*runtime.Kernel) bool
		fails  string
		notes  int
	}{
		"recorded": {host: lock.Host{Architecture: own, Kernel: release},
			kernel: &lock.Kernel{Version: version, SystemCalls: []string{"getrandom", "read"}},
			check: func(k *runtime.Kernel) bool {
				return k.Release == release && k.Version == version && slices.Equal(k.Syscalls, []string{"getrandom", "read"})
			}},
		"guessed": {host: lock.Host{Architecture: own, Kernel: release}, kernel: &lock.Kernel{Version: version}, notes: 1,
			check: func(k *runtime.Kernel) bool {
				return slices.Contains(k.Syscalls, "openat") && !slices.Contains(k.Syscalls, "getrandom") && k.Version == version
			}},
		"an old lock": {host: lock.Host{Kernel: "5.10.0-28-amd64"}, notes: 1,
			check: func(k *runtime.Kernel) bool { return slices.Contains(k.Syscalls, "openat2") }},
		"a folder":     {host: lock.Host{Architecture: own}, fails: "names no kernel"},
		"an odd one":   {host: lock.Host{Architecture: own, Kernel: "acme"}, fails: "names no kernel"},
		"another's":    {host: lock.Host{Architecture: "sparc64", Kernel: release}, fails: "QEMU"},
		"calls, alone": {host: lock.Host{Architecture: own}, kernel: &lock.Kernel{SystemCalls: []string{"read"}}, fails: "names no kernel"},
	} {
		var notes []string
		plan := planFor(t, test.host, test.kernel, &notes)
		err := plan.kernel()
		switch bad := (*KernelError)(nil); {
		case test.fails != "":
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.fails) || !strings.Contains(bad.Hint(), "--kernel own") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case plan.spec.Kernel == nil || !test.check(plan.spec.Kernel):
			t.Errorf("%s: got %+v", name, plan.spec.Kernel)
		}
		if len(notes) != test.notes {
			t.Errorf("%s: said %q", name, notes)
		}
		plan.Kernel, plan.spec.Kernel = Own, nil
		if err := plan.kernel(); err != nil || plan.spec.Kernel != nil {
			t.Errorf("%s: asked for its own: %+v, %v", name, plan.spec.Kernel, err)
		}
	}
}
