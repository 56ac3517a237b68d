package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// apart are what targets of one distribution's release don't have, each of them.
var apart = [][]string{{"nano"}, {"less"}, {"logrotate", "cron"}, {"vim-tiny", "vim-common"}, {"man-db"}, {"nano", "less"},
	{"rsyslog"}, {"shared-mime-info"}, {"netbase", "nano"}}

// diskTools are what each of them builds with.
const diskTools = `tools = ["build-essential", "libssl-dev", "libpq-dev", "pkg-config", "cmake", "python3-dev"]` + "\n"

// disk compares what a store takes that has one target, with its tools, with one that
// has some more, a few packages apart. Hard links count once.
func (b *bench) disk(ctx context.Context) error {
	fleet, store := b.fleet, b.store
	defer func() { b.fleet, b.store = fleet, store }()
	b.fleet, b.store = b.path("targets/fleet"), b.path("targets/store")
	project := b.path("targets/project")
	if err := os.MkdirAll(project, 0o700); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "testdata/hosts/cached", "bare-host").Output()
	if err != nil {
		return fmt.Errorf("making a host: %w", err)
	}
	host := filepath.Join(strings.TrimSpace(string(out)), "host")
	var names []string
	var sizes [2]int64
	for i, packages := range apart {
		names = append(names, fmt.Sprintf("t%d", i+1))
		if err := b.without(ctx, host, names[i], packages); err != nil {
			return err
		}
		if i > 0 && i < len(apart)-1 {
			continue
		}
		toml := fmt.Sprintf("fleet = \"../fleet\"\ntargets = [%s]\n", `"`+strings.Join(names, `", "`)+`"`) + diskTools
		if err := os.WriteFile(filepath.Join(project, "stead.toml"), []byte(toml), 0o644); err != nil {
			return err
		}
		for _, command := range []string{"update", "pull"} {
			if err := b.command(ctx, project, b.stead, command); err != nil {
				return err
			}
		}
		if err := b.command(ctx, "", "du", "-s", "--block-size=1", b.store); err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.Fields(b.output)[0], 10, 64)
		if err != nil {
			return err
		}
		sizes[min(i, 1)] = size
	}
	b.diskRatio = fmt.Sprintf("%d targets a few packages apart take %d MB, one of them %d MB, with the same tools: %.2f times (asked: at most 1.3)",
		len(apart), sizes[1]/1e6, sizes[0]/1e6, float64(sizes[1])/float64(sizes[0]))
	return nil
}

// without takes a snapshot of a host from which some packages were removed.
func (b *bench) without(ctx context.Context, host, target string, packages []string) (err error) {
	dir := b.path("targets/" + target)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"upper", "work", "host"} {
		if err := os.MkdirAll(at(name), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", host, at("upper"), at("work"))
	if err := syscall.Mount("overlay", at("host"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting %s: %w", at("host"), err)
	}
	defer syscall.Unmount(at("host"), syscall.MNT_DETACH) //nolint:errcheck // removing the folder tells
	if err := b.command(ctx, dir, "chroot", append([]string{at("host"), "dpkg", "--purge", "--force-depends"}, packages...)...); err != nil {
		return err
	}
	return b.command(ctx, b.dir, b.stead, "snapshot", at("host"), target, "--yes")
}
