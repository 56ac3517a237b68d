package envs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// bootstrapper makes a root of package files, the way that mmdebstrap goes: what no
// script can do without is unpacked first, and then everything is installed by the
// root's own dpkg, in a container without a network.
type bootstrapper struct {
	l      *lister
	files  []archive.Candidate // one for each package
	newest int64               // of all files in packages, in seconds

	// The root is the upper folder of an overlay over nothing: an engine never writes to
	// the root that it is given, and leaves what a session changed in there.
	upper, empty, debs string
	names              []string // of the package files in debs
	log                *dpkgLog
}

// What is mounted while packages are installed; but for the last, the mount points are
// removed in the end.
const (
	debsInside   = "/run/stead-packages"
	policyInside = "/usr/sbin/policy-rc.d"
	daemonInside = "sbin/start-stop-daemon"
)

// stubs stand for what starts services: invoke-rc.d asks policy-rc.d, which forbids all
// with 101 (invoke-rc.d(8)); what starts daemons by itself starts none.
var stubs = map[string]string{"policy-rc.d": "#!/bin/sh\nexit 101\n", "start-stop-daemon": "#!/bin/sh\nexit 0\n"}

// bootstrap installs packages into a new root and returns its folder.
func (l *lister) bootstrap(ctx context.Context, found *archive.Result) (string, error) {
	b := &bootstrapper{l: l, files: found.Candidates, upper: filepath.Join(l.work, "root"),
		empty: filepath.Join(l.work, "empty"), debs: filepath.Join(l.work, "packages")}
	b.log = &dpkgLog{progress: l.cfg.Progress, total: int64(len(b.files))}
	for _, dir := range []string{b.empty, b.debs, b.root(), filepath.Join(l.work, "stubs")} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return "", fmt.Errorf("making a root: %w", err)
		}
	}
	for name, script := range stubs {
		name = filepath.Join(l.work, "stubs", name)
		if err := errors.Join(os.WriteFile(name, []byte(script), 0o755), os.Chmod(name, 0o755)); err != nil {
			return "", fmt.Errorf("making a root: %w", err)
		}
	}
	graph, err := b.prepare(ctx)
	if err != nil {
		return "", err
	}
	essential := graph.essential(l.arch)
	if !slices.ContainsFunc(essential, func(i int) bool { return b.files[i].Name == "dpkg" }) {
		return "", errors.New("making a root: the list has no dpkg that is essential, so that nothing can install the rest")
	}
	if err := b.extract(ctx, essential); err != nil {
		return "", fmt.Errorf("unpacking essential packages: %w", err)
	}
	if err := b.install(ctx, graph, essential); err != nil {
		return "", err
	}
	if err := b.check(ctx); err != nil {
		return "", err
	}
	return b.root(), b.clear(ctx)
}

func (b *bootstrapper) root() string { return filepath.Join(b.upper, "upper") }

// prepare unpacks the trees of the packages, puts their files where the container sees
// them, and reads what they need of each other.
func (b *bootstrapper) prepare(ctx context.Context) (*debGraph, error) {
	cfg := b.l.cfg
	var inside []lock.Package
	for _, c := range b.files {
		if !isOutside(c.Name) {
			inside = append(inside, pinned(c))
		}
	}
	if err := unpackAll(ctx, cfg, packageTrees(inside), nil); err != nil {
		return nil, err
	}
	trees, err := loadTrees(ctx, cfg, packageTrees(inside))
	if err != nil {
		return nil, err
	}
	for _, t := range trees {
		for _, f := range t.Manifest {
			b.newest = max(b.newest, f.MTime)
		}
	}
	b.newest = min(b.newest, time.Now().Unix())
	var all []debControl
	for i, c := range b.files {
		members, err := image.Control(ctx, cfg.Store, c.Digest())
		if err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", c.Name, c.Version, err)
		}
		fields, err := image.ControlFields(members["control"])
		if err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", c.Name, c.Version, err)
		}
		get := func(name string) string { return strings.Join(fields[name], ",") }
		all = append(all, debControl{name: c.Name, arch: c.Architecture, essential: get("Essential") == "yes",
			preDepends: get("Pre-Depends"), depends: get("Depends"), provides: get("Provides")})
		b.names = append(b.names, fmt.Sprintf("%05d.deb", i))
		if err := b.place(ctx, i, members); err != nil {
			return nil, fmt.Errorf("copying %s %s: %w", c.Name, c.Version, err)
		}
	}
	return newDebGraph(all), nil
}

// place copies a package file. In the place of one whose files aren't put into a root
// comes one without files and scripts: dpkg has to know it.
func (b *bootstrapper) place(ctx context.Context, i int, members map[string][]byte) error {
	c := b.files[i]
	out, err := os.OpenFile(filepath.Join(b.debs, b.names[i]), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if isOutside(c.Name) {
		records := map[string][]byte{}
		if sums, ok := members["md5sums"]; ok {
			records["md5sums"] = sums
		}
		top := []snapshot.File{{Path: ".", Type: snapshot.Dir, Mode: 0o755}}
		err := image.Repack(ctx, out, snapshot.Package{Control: members["control"]}, records, nil, top, nil)
		return errors.Join(err, out.Close())
	}
	blob, err := b.l.cfg.Store.OpenBlob(c.Digest())
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = io.Copy(out, blob)
	return errors.Join(err, out.Close())
}

// extract copies the files of essential packages into the root, and makes an empty
// database for dpkg.
func (b *bootstrapper) extract(ctx context.Context, essential []int) error {
	var packages []lock.Package
	for _, i := range essential {
		if !isOutside(b.files[i].Name) && b.files[i].Name != "base-files" {
			packages = append(packages, pinned(b.files[i]))
		}
	}
	for _, i := range essential { // last: it has the modes of the root's folders
		if b.files[i].Name == "base-files" {
			packages = append(packages, pinned(b.files[i]))
		}
	}
	trees, err := loadTrees(ctx, b.l.cfg, packageTrees(packages))
	if err != nil {
		return err
	}
	links := map[string]string{}
	if b.l.merged() {
		if links, err = b.mergedLinks(ctx); err != nil {
			return err
		}
	}
	if err := image.Extract(ctx, trees, links, b.root(), b.l.cfg.Store.Owners()); err != nil {
		return err
	}
	root, err := os.OpenRoot(b.root())
	if err != nil {
		return err
	}
	defer root.Close()
	for _, dir := range []string{"info", "updates", "triggers", "parts", "alternatives"} {
		if err := root.MkdirAll("var/lib/dpkg/"+dir, 0o755); err != nil {
			return err
		}
	}
	archs := []string{b.l.arch}
	for _, c := range b.files {
		if c.Architecture != "all" && !slices.Contains(archs, c.Architecture) {
			archs = append(archs, c.Architecture)
		}
	}
	database := map[string]string{"status": "", "available": ""}
	if len(archs) > 1 {
		database["arch"] = strings.Join(archs, "\n") + "\n"
	}
	for name, content := range database {
		if err := root.WriteFile("var/lib/dpkg/"+name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mergedLinks are the links into /usr of the folders of the root that packages use.
func (b *bootstrapper) mergedLinks(ctx context.Context) (map[string]string, error) {
	links := map[string]string{}
	for _, c := range b.files {
		if isOutside(c.Name) {
			continue
		}
		trees, err := loadTrees(ctx, b.l.cfg, packageTrees([]lock.Package{pinned(c)}))
		if err != nil {
			return nil, err
		}
		for _, f := range trees[0].Manifest {
			top, _, below := strings.Cut(f.Path, "/")
			if below && (top == "bin" || top == "sbin" || strings.HasPrefix(top, "lib")) {
				links[top] = "usr/" + top
			}
		}
	}
	return links, nil
}

// install lets the root's own dpkg install everything.
func (b *bootstrapper) install(ctx context.Context, graph *debGraph, essential []int) error {
	// Users and the folders of the root are what other packages' scripts rely on without
	// saying so: base-passwd and base-files are essential.
	var steps [][]int
	rest := slices.Clone(essential)
	for _, name := range []string{"base-passwd", "base-files"} {
		first := slices.DeleteFunc(slices.Clone(essential), func(i int) bool { return b.files[i].Name != name })
		rest = slices.DeleteFunc(rest, func(i int) bool { return b.files[i].Name == name })
		steps = append(steps, first)
	}
	steps = append(steps, rest)
	early := len(steps)
	steps = append(steps, graph.batches(essential)...)
	for n, step := range steps {
		if len(step) == 0 {
			continue
		}
		args := []string{"--install"}
		for _, i := range step {
			args = append(args, debsInside+"/"+b.names[i])
		}
		// What went wrong is tried again below: a script may want what comes later.
		if _, err := b.dpkg(ctx, n >= early, nil, b.log, args...); err != nil {
			return err
		}
	}
	for range 3 {
		code, err := b.dpkg(ctx, true, nil, b.log, "--configure", "--pending")
		if err != nil {
			return err
		}
		if code == 0 {
			break
		}
	}
	return b.hold(ctx)
}

// hold sets what the list's host wants of packages.
func (b *bootstrapper) hold(ctx context.Context) error {
	var selections strings.Builder
	for _, p := range b.l.packages {
		if p.Want != "install" && p.Want != "unknown" {
			word := p.Want
			name := p.Name
			if p.Architecture != "all" {
				name += ":" + p.Architecture
			}
			fmt.Fprintf(&selections, "%s %s\n", name, word)
		}
	}
	if selections.Len() == 0 {
		return nil
	}
	code, err := b.dpkg(ctx, true, strings.NewReader(selections.String()), b.log, "--set-selections")
	if err == nil && code != 0 {
		err = b.log.fail("keeping packages on hold", code)
	}
	return err
}

// dpkg runs the root's dpkg to its end and returns its exit code.
func (b *bootstrapper) dpkg(ctx context.Context, whole bool, in io.Reader, out io.Writer, args ...string) (int, error) {
	// The files on disk are made again if the machine stops, so nothing has to be synced;
	// nobody is there to be asked about configuration files.
	command := append([]string{"dpkg", "--force-depends", "--force-unsafe-io", "--force-confdef", "--force-confold"}, args...)
	return b.run(ctx, whole, in, out, command...)
}

// run runs a command in the root; whole says that start-stop-daemon won't be replaced
// by dpkg meanwhile, and can be covered.
func (b *bootstrapper) run(ctx context.Context, whole bool, in io.Reader, out io.Writer, command ...string) (int, error) {
	spec := runtime.Spec{Name: "the list of " + b.l.opts.Target, Root: b.empty, Upper: b.upper, Scratch: ScratchDir(b.l.cfg.Store),
		Command: command, Dir: "/", Umask: 0o022, Hostname: "localhost", Network: runtime.NetworkNone,
		// Whatever makes files in an order or with a time of its own is told to use these.
		Env: []string{"DEBCONF_NONINTERACTIVE_SEEN=true", "DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C",
			"PATH=" + sessionPath, "PERL_HASH_SEED=0", "PYTHONHASHSEED=0", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.newest, 10), "TERM=dumb"},
		Mounts: []runtime.Mount{
			{Source: b.debs, Target: debsInside, ReadOnly: true},
			{Source: filepath.Join(b.l.work, "stubs", "policy-rc.d"), Target: policyInside, ReadOnly: true},
		}}
	if err := os.MkdirAll(spec.Scratch, 0o700); err != nil {
		return 0, fmt.Errorf("making a folder for sessions: %w", err)
	}
	root, err := os.OpenRoot(b.root())
	if err != nil {
		return 0, err
	}
	_, missing := root.Stat(daemonInside)
	root.Close()
	if whole && missing == nil {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Source: filepath.Join(b.l.work, "stubs", "start-stop-daemon"),
			Target: "/" + daemonInside, ReadOnly: true})
	}
	res, err := b.l.opts.Engine.Run(ctx, spec, runtime.Stdio{In: in, Out: out, Err: out})
	for _, note := range res.Notes {
		b.l.cfg.Progress.Note("installing", note)
	}
	if err != nil {
		return 0, fmt.Errorf("running dpkg in the list's root: %w", err)
	}
	return res.ExitCode, nil
}

// check compares what dpkg says of the root with the list.
func (b *bootstrapper) check(ctx context.Context) error {
	var installed, audit bytes.Buffer
	code, err := b.run(ctx, true, nil, &installed, "dpkg-query", "-W", "-f", "${Package}\\t${Version}\\t${Architecture}\\t${db:Status-Status}\\n")
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("asking dpkg what it installed: exit code %d: %.500s", code, installed.String())
	}
	have := map[string]bool{}
	for line := range strings.Lines(installed.String()) {
		have[strings.TrimSuffix(line, "\n")] = true
	}
	var lacking []string
	for _, p := range b.l.packages {
		if !have[strings.Join([]string{p.Name, p.Version, p.Architecture, "installed"}, "\t")] {
			lacking = append(lacking, p.Name)
		}
	}
	if len(lacking) > 0 {
		return b.log.fail("installing "+some(lacking), 1)
	}
	if _, err := b.run(ctx, true, nil, &audit, "dpkg", "--audit"); err != nil {
		return err
	}
	if text := strings.TrimSpace(audit.String()); text != "" {
		return fmt.Errorf("checking the installed packages: dpkg --audit says: %.2000s", text)
	}
	return nil
}

// clear removes what was needed to install, and gives what scripts made the time of the
// newest file in any package: when this ran is nobody's business.
func (b *bootstrapper) clear(ctx context.Context) error {
	root, err := os.OpenRoot(b.root())
	if err != nil {
		return err
	}
	defer root.Close()
	if fi, err := root.Lstat(policyInside[1:]); err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
		if err := root.Remove(policyInside[1:]); err != nil {
			return err
		}
	}
	if err := root.Remove(debsInside[1:]); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	return clampTimes(ctx, top, b.newest)
}

// clampTimes sets the times of what is below a folder, and later than newest, to that.
func clampTimes(ctx context.Context, dir *os.File, newest int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	fd := int(dir.Fd())
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return &fs.PathError{Op: "open", Path: name, Err: err}
			}
			f := os.NewFile(uintptr(sub), name)
			err = clampTimes(ctx, f, newest)
			f.Close()
			if err != nil {
				return err
			}
		}
		if st.Mtim.Sec <= newest {
			continue
		}
		times := []unix.Timespec{{Sec: newest}, {Sec: newest}}
		if err := unix.UtimesNanoAt(fd, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "utimensat", Path: name, Err: err}
		}
	}
	return nil
}
