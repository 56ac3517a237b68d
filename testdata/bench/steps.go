package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// The things that are measured.
const (
	snapshotFirst = "stead snapshot, empty store"
	snapshotAgain = "stead snapshot, unchanged host"
	crowdedFirst  = "stead snapshot, and 300,000 small files of the host's own"
	crowdedAgain  = "stead snapshot, the same again, unchanged"
	pullCold      = "stead pull, package files at hand"
	pullLarge     = "stead pull, the same and 1.2 GB of the host's own files"
	pullTrees     = "stead pull, trees at hand"
	pullReady     = "stead pull, nothing to do"
	mmdebstrap    = "mmdebstrap, the same package files"
	unsynced      = "mmdebstrap, dpkg's syncs off"
	decompress    = "decompressing the package files, one a processor"
	untar         = "tar -x of the finished root"
)

// bench is one run of the benchmark.
type bench struct {
	title     string
	dir       string // everything it writes
	stead     string // the program
	host      string
	fleet     string
	store     string // of the developer, as far as it is filled
	root      string // made by pull
	debs      []string
	include   string // all packages, for mmdebstrap
	tar       string
	samples   []*sample
	memory    int64  // peak of the last command, bytes
	output    string // of the last command, to stdout
	checked   int    // programs that were judged
	diskRatio string // what was found of the disk that targets take
	cleanup   []func() error
}

// prepare makes what is measured; with starts alone, what they need.
func prepare(ctx context.Context, startsOnly bool) (_ *bench, err error) {
	out, err := exec.CommandContext(ctx, "testdata/hosts/cached", "bench-host").Output()
	if err != nil {
		return nil, fmt.Errorf("making a host: %w", err)
	}
	made := strings.TrimSpace(string(out))
	// Beside the host, so that all that is compared lies on one file system.
	dir, err := os.MkdirTemp(filepath.Dir(made), "bench-run-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, host: filepath.Join(made, "host")}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	b.fleet, b.store = b.path("fleet"), b.path("store")
	b.tar = b.path("root.tar")
	b.stead = b.path("stead") // a copy: bin/stead may be built again meanwhile
	if err := b.command(ctx, "", "cp", "bin/stead", b.stead); err != nil {
		return nil, err
	}
	for _, sub := range []string{"project", "repo"} {
		if err := os.MkdirAll(b.path(sub), 0o700); err != nil {
			return nil, err
		}
	}
	if b.debs, err = filepath.Glob(filepath.Join(b.host, "var/cache/apt/archives/*.deb")); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{b.repository, b.snapshots, b.finished}
	if startsOnly {
		steps = []func(context.Context) error{b.server, b.ready}
	}
	for _, prepare := range steps {
		if err := prepare(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// repository makes a local archive of the host's package files, for mmdebstrap: nothing
// to download, and no signature to check.
func (b *bench) repository(ctx context.Context) error {
	var index bytes.Buffer
	for _, deb := range b.debs {
		control, err := exec.CommandContext(ctx, "dpkg-deb", "-f", deb).Output()
		if err != nil {
			return fmt.Errorf("reading %s: %w", deb, err)
		}
		sum, err := exec.CommandContext(ctx, "sha256sum", deb).Output()
		if err != nil {
			return err
		}
		fi, err := os.Stat(deb)
		if err != nil {
			return err
		}
		fmt.Fprintf(&index, "%sFilename: ./%s\nSize: %d\nSHA256: %.64s\n\n", control, filepath.Base(deb), fi.Size(), sum)
		if err := os.Link(deb, b.path("repo/"+filepath.Base(deb))); err != nil {
			return err
		}
	}
	if err := os.WriteFile(b.path("repo/Packages"), index.Bytes(), 0o600); err != nil {
		return err
	}
	release := fmt.Sprintf("Suite: bookworm\nCodename: bookworm\nSHA256:\n %x %d Packages\n", sha256.Sum256(index.Bytes()), index.Len())
	if err := os.WriteFile(b.path("repo/Release"), []byte(release), 0o600); err != nil {
		return err
	}
	names, err := exec.CommandContext(ctx, "dpkg-query", "--admindir="+filepath.Join(b.host, "var/lib/dpkg"),
		"-W", "-f", "${Package},").Output()
	b.include = strings.TrimSuffix(string(names), ",")
	b.title = fmt.Sprintf("A Debian 12 server of %d packages, %d processors.", len(b.debs), runtime.GOMAXPROCS(0))
	return err
}

// snapshots takes the first snapshot, and keeps the store with the package files in it.
func (b *bench) snapshots(ctx context.Context) error {
	first := step{name: snapshotFirst, do: func(ctx context.Context) error {
		return b.command(ctx, b.dir, b.stead, "snapshot", b.host, "bench", "--yes")
	}}
	if err := b.measure(ctx, first); err != nil {
		return err
	}
	if err := b.server(ctx); err != nil {
		return err
	}
	if err := b.crowded(ctx); err != nil {
		return err
	}
	return os.Rename(b.store, b.path("lead"))
}

// server takes a snapshot without the host's large files: what mmdebstrap is compared
// with are packages.
func (b *bench) server(ctx context.Context) error {
	return b.command(ctx, b.dir, b.stead, "snapshot", b.host, "server", "--yes", "--drop", "/opt/big/**")
}

// crowded measures a copy of the host with many small files, for the memory it takes.
func (b *bench) crowded(ctx context.Context) error {
	const folders, each = 3000, 100
	host := b.path("crowded")
	if err := b.command(ctx, b.dir, "cp", "-a", "--sparse=always", b.host, host); err != nil {
		return err
	}
	for i := range folders {
		dir := filepath.Join(host, fmt.Sprintf("opt/crowd/module-%04d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for j := range each {
			name := filepath.Join(dir, fmt.Sprintf("part-of-it-%03d.dat", j))
			if err := os.WriteFile(name, fmt.Appendf(nil, "this is file %d of %d\n", j, i), 0o644); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{crowdedFirst, crowdedAgain} {
		err := b.measure(ctx, step{name: name, do: func(ctx context.Context) error {
			return b.command(ctx, b.dir, b.stead, "snapshot", host, "crowded", "--yes")
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// finished makes the root once, and a tar of it.
func (b *bench) finished(ctx context.Context) error {
	if err := b.withBlobs(ctx); err != nil {
		return err
	}
	if err := b.ready(ctx); err != nil {
		return err
	}
	return b.command(ctx, b.dir, "tar", "-C", b.root, "--xattrs", "--xattrs-include=*", "-cf", b.tar, ".")
}

// ready makes the root, and learns where it is.
func (b *bench) ready(ctx context.Context) error {
	if err := b.command(ctx, b.path("project"), b.stead, "pull", "server", "--json"); err != nil {
		return err
	}
	var answers []struct{ Root string }
	if err := json.Unmarshal([]byte(b.output), &answers); err != nil || len(answers) != 1 {
		return errors.Join(err, fmt.Errorf("pull answered %q", b.output))
	}
	b.root = answers[0].Root
	return nil
}

// withBlobs gives the developer a fresh store with the package files, and no more.
func (b *bench) withBlobs(context.Context) error {
	if err := b.aside(b.store); err != nil {
		return err
	}
	from := b.path("lead/blobs")
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(b.store, "blobs", strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		return os.Link(path, to)
	})
}

// remove puts what a pattern matches out of the way.
func (b *bench) remove(pattern string) func(context.Context) error {
	return func(context.Context) error {
		paths, err := filepath.Glob(pattern)
		for _, path := range paths {
			err = errors.Join(err, b.aside(path))
		}
		return err
	}
}

// aside moves a folder away; all of them go at the end. To make files is slower for
// minutes after others were deleted: ext4 doesn't use a young inode again at once.
func (b *bench) aside(path string) error {
	dir, err := os.MkdirTemp(b.dir, "aside-")
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// steps are measured in each round, in this order: a pull leaves what the next needs.
func (b *bench) steps() []step {
	pullTarget := func(target string) func(context.Context) error {
		return func(ctx context.Context) error { return b.command(ctx, b.path("project"), b.stead, "pull", target) }
	}
	pull := pullTarget("server")
	copied := b.path("copy")
	return []step{
		{name: pullCold, before: b.withBlobs, do: pull},
		{name: pullTrees, before: b.remove(filepath.Join(b.store, "roots/*")), do: pull},
		{name: pullReady, do: pull},
		{name: pullLarge, before: b.withBlobs, do: pullTarget("bench"), after: func(ctx context.Context) error { return pull(ctx) }},
		{name: snapshotAgain, before: b.asLead, after: b.asDeveloper, do: func(ctx context.Context) error {
			return b.command(ctx, b.dir, b.stead, "snapshot", b.host, "bench", "--yes")
		}},
		{name: decompress, do: func(ctx context.Context) error { return decompressAll(ctx, b.debs) }},
		{name: untar, before: b.remove(copied), after: b.remove(copied), do: func(ctx context.Context) error {
			if err := os.Mkdir(copied, 0o700); err != nil {
				return err
			}
			return b.command(ctx, b.dir, "tar", "-C", copied, "--xattrs", "--xattrs-include=*", "-xpf", b.tar)
		}, durable: true},
		{name: mmdebstrap, before: b.remove(copied), after: b.remove(copied), do: b.bootstrap(), durable: true},
		{name: unsynced, before: b.remove(copied), after: b.remove(copied), do: b.bootstrap("--dpkgopt=force-unsafe-io"), durable: true},
	}
}

// bootstrap makes the host from its package names, as mmdebstrap does.
func (b *bench) bootstrap(options ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		args := append(options, "--mode=root", "--variant=minbase", "--format=directory",
			// In apt's cache by hard links: quicker than having them copied.
			`--setup-hook=mkdir -p "$1/var/cache/apt/archives" && cp -l `+b.path("repo")+`/*.deb "$1/var/cache/apt/archives/"`,
			"--include="+b.include, "bookworm", b.path("copy"), "deb [trusted=yes] copy://"+b.path("repo")+" ./")
		return b.command(ctx, b.dir, "mmdebstrap", args...)
	}
}

func (b *bench) asLead(context.Context) error { b.store = b.path("lead"); return nil }

func (b *bench) asDeveloper(context.Context) error { b.store = b.path("store"); return nil }
