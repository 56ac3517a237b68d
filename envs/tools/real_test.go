package tools

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// An archive is a release as apt has its lists: what the real thing is compared with.
type archive struct {
	arch    string
	options []string // for apt
	offers  []Candidate
	extra   map[string]string // further fields by which apt tells packages of one version apart
	release map[string]bool   // what is in the release itself, by name and version: not in updates alone
}

func run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// readArchive reads the lists of the apt in a root.
func readArchive(t testing.TB, root string) *archive {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("no apt here")
	}
	arch, err := run("dpkg", "--print-architecture")
	if err != nil {
		t.Fatal(arch, err)
	}
	a := &archive{arch: strings.TrimSpace(arch), release: map[string]bool{}, extra: map[string]string{}}
	a.options = []string{"-o", "Dir=" + root, "-o", "Dir::Etc::parts=/dev/null", "-o", "Dir::Etc::preferences=/dev/null",
		"-o", "Dir::Etc::preferencesparts=/dev/null", "-o", "APT::Architectures=" + a.arch, "-o", "Dir::Cache=" + t.TempDir(),
		"-o", "Dir::Cache::pkgcache=pkgcache.bin", "-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin"}
	list, err := run("apt-get", append(slices.Clone(a.options), "indextargets", "--format", "$(FILENAME) $(RELEASE) $(ORIGIN)", "Created-By: Packages")...)
	if err != nil {
		t.Fatal(list, err)
	}
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "Debian" {
			continue
		}
		if err := a.read(f[0], strings.Contains(f[1], "-")); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.offers) == 0 {
		t.Skip("apt has no lists of Debian here")
	}
	return a
}

func (a *archive) read(file string, updates bool) error {
	cmd := exec.Command("/usr/lib/apt/apt-helper", "cat-file", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for c := range stanzas(out) {
		a.offers = append(a.offers, c.Candidate)
		a.extra[c.key()] = c.extra
		if !updates {
			a.release[c.key()] = true
		}
	}
	return cmd.Wait()
}

type stanza struct {
	Candidate
	state, extra string
}

func (c Candidate) key() string { return c.Name + " " + c.Version + " " + c.Architecture }

func (s *stanza) field(name string) *string {
	switch name {
	case "Package":
		return &s.Name
	case "Version":
		return &s.Version
	case "Architecture":
		return &s.Architecture
	case "Multi-Arch":
		return &s.MultiArch
	case "Pre-Depends":
		return &s.PreDepends
	case "Depends":
		return &s.Depends
	case "Conflicts":
		return &s.Conflicts
	case "Breaks":
		return &s.Breaks
	case "Replaces":
		return &s.Replaces
	case "Provides":
		return &s.Provides
	case "Source":
		return &s.Source
	case "Status":
		return &s.state
	}
	return nil
}

// stanzas reads what matters of a list of packages, or of a status.
func stanzas(r io.Reader) func(func(stanza) bool) {
	return func(yield func(stanza) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		var s stanza
		for lines.Scan() {
			line := lines.Text()
			if line == "" {
				if s.Name != "" && !yield(s) {
					return
				}
				s = stanza{}
			}
			if strings.HasPrefix(line, " ") {
				continue
			}
			field, value, _ := strings.Cut(line, ": ")
			if to := s.field(field); to != nil {
				*to = value
			}
			s.Source, _, _ = strings.Cut(s.Source, " ")
			switch field {
			case "Installed-Size", "Recommends", "Suggests", "Enhances", "Essential", "Important", "Protected", "Source", "Priority", "Section":
				s.extra += line + "\n"
			}
		}
		if s.Name != "" {
			yield(s)
		}
	}
}

// status writes packages as dpkg's records, all in one state.
func (a *archive) status(packages []Candidate, state string) []byte {
	var b bytes.Buffer
	for _, c := range packages {
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok %s\nMaintainer: nobody <nobody@mirror.example>\nArchitecture: %s\nVersion: %s\nDescription: %s\n",
			c.Name, state, c.Architecture, c.Version, c.Name)
		fields := map[string]string{"Multi-Arch": c.MultiArch, "Pre-Depends": c.PreDepends, "Depends": c.Depends, "Conflicts": c.Conflicts,
			"Breaks": c.Breaks, "Replaces": c.Replaces, "Provides": c.Provides}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			if fields[field] != "" {
				fmt.Fprintf(&b, "%s: %s\n", field, fields[field])
			}
		}
		b.WriteString(a.extra[c.key()] + "\n")
	}
	return b.Bytes()
}

// behind makes a base of what the release was at its point release: the archive's security
// suite and updates are newer.
func (a *archive) behind(t testing.TB, wishes string) []Candidate {
	t.Helper()
	var first []Candidate
	for _, c := range a.offers {
		if a.release[c.key()] {
			first = append(first, c)
		}
	}
	answer, err := Solve(t.Context(), Base{Architecture: a.arch}, first, parseWishes(wishes))
	if err != nil {
		t.Fatal(err)
	}
	var base []Candidate
	for _, c := range answer.Packages {
		base = append(base, c.Candidate)
	}
	return base
}

// server is what production has: no compiler.
const server = "adduser, apt, base-files, base-passwd, bash, bsdutils, ca-certificates, coreutils, cron, curl, dash, debianutils, diffutils, " +
	"dpkg, e2fsprogs, findutils, grep, gzip, hostname, init, libc-bin, login, logrotate, mawk, mount, ncurses-base, ncurses-bin, nginx, " +
	"openssh-server, openssl, passwd, perl, postgresql, python3, redis-server, rsyslog, sed, sudo, sysvinit-utils, tar, util-linux"

// Wishes at random over whole archives, here 30 on a base that is behind: where apt finds
// an answer that moves nothing, so does Solve, and apt and dpkg are content with that.
func TestAgainstApt(t *testing.T) {
	a := readArchive(t, "/")
	a.compare(t, a.behind(t, server), 30)
}

// The same with 20 more for a made server of another release, with the records that it has.
func TestAgainstAptOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making a host needs root")
	}
	made, err := exec.Command("../../testdata/hosts/cached", "bare-host").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(made)), "host")
	a := readArchive(t, root)
	f, err := os.Open(filepath.Join(root, "var/lib/dpkg/status"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var base []Candidate
	for s := range stanzas(f) {
		if s.state == "install ok installed" {
			base = append(base, s.Candidate)
			a.extra[s.key()] = s.extra
		}
	}
	a.compare(t, base, 20)
}

// A trial compares on one base.
type trial struct {
	*archive
	packages []Candidate
	base     Base
	file     string // the base as dpkg's status

	equal, alike, more, neither atomic.Int32
	longest                     atomic.Int64
}

func (a *archive) compare(t *testing.T, packages []Candidate, count int) {
	tr := &trial{archive: a, packages: packages, base: Base{Name: "acme", Architecture: a.arch}, file: filepath.Join(t.TempDir(), "status")}
	for _, c := range packages {
		tr.base.Packages = append(tr.base.Packages, Installed{Name: c.Name, Version: c.Version, Architecture: c.Architecture, Relations: c.Relations})
	}
	if err := os.WriteFile(tr.file, a.status(packages, "installed"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The first has apt make its cache.
	if _, _, err := a.simulate(tr.file); err != nil {
		t.Fatal(err)
	}
	tr.shuffled(t)
	var group errgroup.Group
	group.SetLimit(goruntime.NumCPU())
	for i, wish := range tr.pick(count) {
		group.Go(func() error { return tr.one(t, wish, i%8 < 2) })
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d packages in the base, %d offers: as apt %d wishes by the very same packages, %d by others, %d where apt would move something, %d not; the slowest took %s",
		len(packages), len(a.offers), tr.equal.Load(), tr.alike.Load(), tr.more.Load(), tr.neither.Load(), time.Duration(tr.longest.Load()))
}

// shuffled checks that the order of all that is given doesn't matter.
func (tr *trial) shuffled(t *testing.T) {
	var first *Answer
	random := rand.New(rand.NewPCG(7, 8))
	offers, base := slices.Clone(tr.offers), tr.base
	base.Packages = slices.Clone(base.Packages)
	for range 3 {
		answer, err := Solve(t.Context(), base, offers, parseWishes("build-essential, cmake, default-jdk, libgtk-3-dev, libpq-dev, php, python3-dev, qtbase5-dev"))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = answer
		} else if !reflect.DeepEqual(answer, first) {
			t.Errorf("in another order %v is %v", first, answer)
		}
		random.Shuffle(len(offers), func(i, j int) { offers[i], offers[j] = offers[j], offers[i] })
		random.Shuffle(len(base.Packages), func(i, j int) {
			base.Packages[i], base.Packages[j] = base.Packages[j], base.Packages[i]
		})
	}
}

// pick picks wishes: half of them among all packages, half among those that come with a
// version of something that the base is behind with.
func (tr *trial) pick(count int) (wishes []string) {
	there, old := map[string]string{}, map[string]bool{}
	for _, c := range tr.packages {
		there[c.Name] = c.Version
	}
	for _, c := range tr.offers {
		if v := there[c.Name]; v != "" && compareVersions(c.Version, v) > 0 {
			old[c.Name] = true
		}
	}
	all, near := map[string]bool{}, map[string]bool{}
	for _, c := range tr.offers {
		if there[c.Name] != "" {
			continue
		}
		all[c.Name] = true
		list, _ := parseRelations(c.Depends, tr.arch)
		for _, r := range list {
			near[c.Name] = near[c.Name] || old[r[0].name] && r[0].op == "="
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	from := [][]string{slices.Sorted(maps.Keys(all)), slices.DeleteFunc(slices.Sorted(maps.Keys(near)), func(n string) bool { return !near[n] })}
	for i := range count {
		list := from[i%2]
		if len(list) == 0 {
			list = from[0]
		}
		wishes = append(wishes, list[random.IntN(len(list))])
	}
	return wishes
}

func (tr *trial) one(t *testing.T, wish string, thorough bool) error {
	theirs, moves, err := tr.simulate(tr.file, wish)
	begin := time.Now()
	answer, failed := Solve(t.Context(), tr.base, tr.offers, parseWishes(wish))
	if took := int64(time.Since(begin)); took > tr.longest.Load() {
		tr.longest.Store(took)
	}
	var none *UnsolvableError
	switch {
	case failed != nil && !errors.As(failed, &none):
		return failed
	case failed != nil && err == nil && !moves:
		return fmt.Errorf("%s: apt installs %s, and here it is %w", wish, theirs, failed)
	case failed != nil:
		tr.neither.Add(1)
		t.Logf("%v\n\thint: %s", failed, none.Hint())
		return nil
	case err != nil || moves:
		tr.more.Add(1)
	case slices.Equal(theirs, versions(answer)):
		tr.equal.Add(1)
	default:
		tr.alike.Add(1)
		t.Logf("%s: apt takes %v, and here it is %v", wish, without(theirs, versions(answer)), without(versions(answer), theirs))
	}
	return tr.content(t.TempDir(), answer, thorough)
}

func versions(a *Answer) (list []string) {
	defer func() { slices.Sort(list) }()
	for _, c := range a.Packages {
		list = append(list, c.Name+"="+c.Version)
	}
	return list
}

func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

var installs = regexp.MustCompile(`(?m)^(Inst|Remv) (\S+) (\[\S+\] )?(?:\((\S+))?`)

// simulate asks apt what it would do to packages of a base: what it would install, and
// whether anything would move.
func (a *archive) simulate(status string, packages ...string) (list []string, moves bool, err error) {
	args := append(slices.Clone(a.options), "-o", "Dir::State::status="+status, "-o", "Debug::NoLocking=1", "-s",
		"--no-install-recommends", "--allow-downgrades", "--yes", "install")
	out, err := run("apt-get", append(args, packages...)...)
	if err != nil {
		return nil, false, errors.New(out)
	}
	for _, m := range installs.FindAllStringSubmatch(out, -1) {
		name, _, _ := strings.Cut(m[2], ":")
		moves = moves || m[1] == "Remv" || m[3] != ""
		list = append(list, name+"="+m[4])
	}
	slices.Sort(list)
	return list, moves, nil
}

// content has apt and dpkg judge an answer: dpkg would configure it, unpacked; apt takes base
// and answer together for consistent; and, what takes long, would install just that.
func (tr *trial) content(dir string, answer *Answer, thorough bool) error {
	var added []Candidate
	for _, c := range answer.Packages {
		added = append(added, c.Candidate)
	}
	for _, sub := range []string{"updates", "info", "triggers"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	old, status := tr.status(tr.packages, "installed"), filepath.Join(dir, "status")
	err := errors.Join(os.WriteFile(filepath.Join(dir, "info/format"), []byte("1\n"), 0o644), os.WriteFile(filepath.Join(dir, "available"), nil, 0o644),
		os.WriteFile(status, slices.Concat(old, tr.status(added, "unpacked")), 0o644))
	if err != nil {
		return err
	}
	want := versions(answer)
	if out, err := run("dpkg", "--admindir="+dir, "--no-act", "--configure", "--pending"); err != nil || strings.Contains(out, "problem") {
		return fmt.Errorf("with %v: %s%w", want, out, err)
	}
	if err := os.WriteFile(status, slices.Concat(old, tr.status(added, "installed")), 0o644); err != nil {
		return err
	}
	args := append(slices.Clone(tr.options), "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Debug::NoLocking=1",
		"-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::State::status="+status, "check")
	if out, err := run("apt-get", args...); err != nil {
		return fmt.Errorf("with %v: %s", want, out)
	}
	if !thorough {
		return nil
	}
	got, moves, err := tr.simulate(tr.file, want...)
	if err != nil || moves || !slices.Equal(got, want) {
		return fmt.Errorf("of %v apt makes %v, moving something: %v, %w", want, got, moves, err)
	}
	return nil
}
