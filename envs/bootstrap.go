package envs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
)

// bootstrapper makes a root of package files, the way that mmdebstrap goes: what no
// script can do without is unpacked first, and then everything is installed by the
// root's own dpkg, in a container without a network.
// The root is the upper folder of an overlay over nothing.
type bootstrapper struct {
	installer
	l     *lister
	files []archive.Candidate // one for each package
}

// bootstrap installs packages into a new root and returns its folder.
func (l *lister) bootstrap(ctx context.Context, found *archive.Result) (string, error) {
	b := &bootstrapper{l: l, files: found.Candidates, installer: installer{cfg: l.cfg, engine: l.opts.Engine, work: l.work,
		force: []string{"--force-depends"}, log: &dpkgLog{progress: l.cfg.Progress, total: int64(len(found.Candidates))}}}
	b.spec = runtime.Spec{Name: "the list of " + l.opts.Target, Root: filepath.Join(l.work, "empty"), Upper: filepath.Join(l.work, "root")}
	if err := errors.Join(os.Mkdir(b.spec.Root, 0o755), os.Chmod(b.spec.Root, 0o755), b.begin()); err != nil {
		return "", fmt.Errorf("making a root: %w", err)
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
	return b.changed(), b.clear(ctx)
}

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
	b.date(trees)
	var all []debControl
	for _, c := range b.files {
		control, err := b.add(ctx, pinned(c))
		if err != nil {
			return nil, err
		}
		all = append(all, control)
	}
	return newDebGraph(all), nil
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
	if err := image.Extract(ctx, trees, links, b.changed(), b.l.cfg.Store.Owners()); err != nil {
		return err
	}
	root, err := os.OpenRoot(b.changed())
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
		// What went wrong is tried again below: a script may want what comes later.
		if _, err := b.installAll(ctx, n >= early, step); err != nil {
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
	root, err := os.OpenRoot(b.changed())
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
