package archive

import (
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/snapshot/host"
)

// The machine's own apt lists, where it has some: verified through Debian's keys,
// with nothing fetched.
func TestThisMachine(t *testing.T) {
	names, err := os.ReadDir("/var/lib/apt/lists")
	if err != nil || len(names) < 4 {
		t.Skip("no apt lists here")
	}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture} ${db:Status-Abbrev}\n").Output()
	if err != nil {
		t.Skip("no dpkg here")
	}
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Skip("no dpkg here")
	}
	var want []Want
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && f[3] == "ii" {
			want = append(want, Want{f[0], f[1], f[2]})
		}
	}
	h, err := host.Folder("/")
	if err != nil {
		t.Fatal(err)
	}
	var n notes
	begin := time.Now()
	d := Debian{Host: h, Store: newStore(t), Architecture: strings.TrimSpace(string(arch)), Offline: true, Fetch: quick(&n)}
	res, err := d.Locate(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	var mem goruntime.MemStats
	goruntime.ReadMemStats(&mem)
	t.Logf("%d of %d packages located in %s; %d MB from the system, %d MB allocated in all; notes %q",
		len(want)-len(missing(want, res.Candidates)), len(want), time.Since(begin).Round(time.Millisecond),
		mem.Sys>>20, mem.TotalAlloc>>20, n.text)
	for _, a := range res.Archives {
		t.Logf("%s %s %s", a.Name, a.Dated, a.SignedBy)
		if len(a.SignedBy) == 0 || !d.Store.HasBlob(a.InRelease) {
			t.Errorf("the archive has no evidence: %+v", a)
		}
	}
	for _, c := range res.Candidates {
		if c.Name == "bash" {
			return
		}
	}
	// Its lists may be newer than what is installed; that is no fault of this code.
	if policy, err := exec.Command("apt-cache", "madison", "bash").Output(); err == nil {
		for _, w := range want {
			if w.Name == "bash" && strings.Contains(string(policy), " "+w.Version+" ") {
				t.Errorf("bash %s is in the lists and was not located: %v", w.Version, res.Problems)
			}
		}
	}
}
