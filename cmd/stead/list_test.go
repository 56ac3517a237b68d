package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
)

// TestRealList makes an env of what dpkg -l wrote on a host, and of nothing else.
func TestRealList(t *testing.T) {
	t.Parallel()
	r := realHost(t)
	list := r.path("dpkg.txt")
	text := r.must(exec.Command("chroot", r.host, "dpkg", "-l"))
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	fleet := func(name string) bool { _, err := os.Stat(r.path(name, "acme")); return err == nil }

	// One package was built on the host: it is named, and nothing is written.
	out, errs, code := result(r.command("fleet", "store", "snapshot", "list:"+list, "acme"))
	if code != exitError || !strings.Contains(errs, "acme-agent 2.4-1local1, of which there is no version") ||
		!strings.Contains(errs, "--without acme-agent") || fleet("fleet") {
		t.Fatalf("exit code %d, fleet %v\n%s%s", code, fleet("fleet"), out, errs)
	}

	var answer listAnswer
	r.answer(r.command("fleet", "store", "snapshot", "list:"+list, "acme", "--without", "acme-agent", "--json"), &answer)
	if !answer.New {
		t.Errorf("the list gave %+v", answer)
	}
	testListed(r, text, answer.Packages)
	testListDiff(r, list, text)
}

type listAnswer struct {
	Release, Identity string
	New               bool
	Packages          map[string]int
	Changes           []envs.Change
}

// testListed looks into the env: it has what the list says, and nothing of how it was made.
func testListed(r *real, text string, packages map[string]int) {
	rows := func(text string) (rows []string) {
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 3 && (f[0] == "ii" || f[0] == "hi") && f[1] != "acme-agent" {
				rows = append(rows, strings.Join(f[:4], " "))
			}
		}
		return rows
	}
	root := r.pull("store")
	if audit := r.must(r.command("fleet", "store", "run", "--root", "acme", "--", "dpkg", "--audit")); audit != "" {
		r.t.Errorf("dpkg --audit says\n%s", audit)
	}
	want, got := rows(text), rows(r.must(r.command("fleet", "store", "run", "acme", "--", "dpkg", "-l")))
	if strings.Join(got, "\n") != strings.Join(want, "\n") || packages[lock.Listed] != len(want) {
		r.t.Errorf("dpkg -l says\n%s\nwant\n%s\nproofs %v", strings.Join(got, "\n"), strings.Join(want, "\n"), packages)
	}
	for _, name := range []string{"usr/sbin/policy-rc.d", "run/stead-packages", "etc/apt/sources.list", "etc/dpkg/dpkg.cfg.d/stead"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, fs.ErrNotExist) {
			r.t.Errorf("/%s was left: %v", name, err)
		}
	}
	if size := r.must(exec.Command("stat", "-c", "%s", filepath.Join(root, "sbin/start-stop-daemon"))); len(size) < 6 {
		r.t.Errorf("start-stop-daemon has %s bytes", size)
	}
	l := readLock(r, "1.lock")
	held := 0
	for _, p := range l.Packages {
		if p.Want == "hold" {
			held++
		}
	}
	if held != 2 || l.Release.Origin != lock.Derived || l.Host.Kernel != "" || l.Host.CPU != "" || l.Host.Codename != "bullseye" {
		r.t.Errorf("%d packages are held; release %+v, host %+v", held, l.Release, l.Host)
	}
	if left, err := os.ReadDir(r.path("store", "work")); err != nil || len(left) > 0 {
		r.t.Errorf("%v is left in the store: %v", left, err)
	}
	r.must(r.command("fleet", "store", "fsck", "acme"))
}

func readLock(r *real, name string) *lock.Lock {
	text, err := os.ReadFile(r.path("fleet", "acme", name))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// testListDiff takes later lists of the same host.
func testListDiff(r *real, list, text string) {
	out := r.must(r.command("fleet", "store", "snapshot", "list:"+list, "acme", "--without", "acme-agent"))
	if !strings.Contains(out, "acme@1 is unchanged") {
		r.t.Errorf("the same list gave %s", out)
	}
	var small strings.Builder // of a smaller host: only what its dpkg needs, and a tool
	keep := strings.Fields("base-files base-passwd bash bsdutils coreutils dash debconf debianutils diffutils dpkg findutils grep " +
		"gzip hostname init-system-helpers login mawk gcc-10-base gpgv libacl1 libattr1 libaudit-common libaudit1 libblkid1 libbz2-1.0 libc-bin libc6 " +
		"libcap-ng0 libcom-err2 libcrypt1 libdb5.3 libdebconfclient0 libgcc-s1 libgcrypt20 libgmp10 libgpg-error0 libgssapi-krb5-2 " +
		"libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 liblz4-1 liblzma5 libmount1 libnsl2 libpam-modules libpam-modules-bin " +
		"libpam-runtime libpam0g libpcre2-8-0 libpcre3 libselinux1 libsmartcols1 libssl1.1 libsystemd0 libtinfo6 libtirpc-common " +
		"libtirpc3 libudev1 libuuid1 libzstd1 lsb-base ncurses-base ncurses-bin openssl perl-base sed sysvinit-utils tar util-linux zlib1g")
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) < 4 || f[0] != "ii" && f[0] != "hi" || slices.Contains(keep, strings.Split(f[1], ":")[0]) {
			small.WriteString(line)
		}
	}
	if err := os.WriteFile(list, []byte(small.String()), 0o644); err != nil {
		r.t.Fatal(err)
	}
	// Scripts that run twice, at once, make the same root.
	var answers [2]listAnswer
	var g errgroup.Group
	for i, name := range []string{"fleet", "fleet-2"} {
		cmd := r.command(name, "store", "snapshot", "list:"+list, "acme", "--json")
		g.Go(func() error {
			out, errs, code := result(cmd)
			if code != 0 {
				return errors.New(errs)
			}
			return json.Unmarshal([]byte(out), &answers[i])
		})
	}
	if err := g.Wait(); err != nil {
		r.t.Fatal(err)
	}
	later, fresh := answers[0], answers[1]
	if later.Release != "acme@2" || !later.New || fresh.Release != "acme@1" || later.Identity != fresh.Identity {
		r.t.Errorf("the later list gave %s %s and %s %s", later.Release, later.Identity, fresh.Release, fresh.Identity)
	}
	removed := 0
	for _, c := range later.Changes {
		if c.Before != "" && c.After == "" {
			removed++
		}
	}
	if removed < 100 || removed != len(later.Changes) || len(fresh.Changes) != 0 {
		r.t.Errorf("the later list has %d changes, %d of them removed", len(later.Changes), removed)
	}
}
