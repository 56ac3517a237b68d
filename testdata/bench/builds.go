package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What is measured of builds.
const (
	buildEnv    = "stead build, a C project"
	buildChroot = "the same in a chroot of the same root"
	noopBuild   = "stead build of three targets, 20,000 files, nothing to do"
	noopMake    = "make alone in one of them, nothing to do"
)

// redis is what is built: some hundred files of C, as its own Makefile wants them. The
// number of jobs is the command's own, so that it is the same both ways.
const (
	redisSuite = "bookworm"
	redisBuild = "make -j2 MALLOC=libc"
	redisClean = "make distclean"
)

// builds compares builds in an env with the same in a chroot, and measures builds that
// find nothing to do.
func (b *bench) builds(ctx context.Context, pairs int) error {
	if pairs == 0 {
		return nil
	}
	if err := b.overhead(ctx, pairs); err != nil {
		return fmt.Errorf("measuring builds: %w", err)
	}
	if err := b.noop(ctx, pairs); err != nil {
		return fmt.Errorf("measuring builds of nothing: %w", err)
	}
	return nil
}

// cpu is the processor time of a command and all that it started.
func (b *bench) cpu(ctx context.Context, dir string, words ...string) (time.Duration, error) {
	var out strings.Builder
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LANG=C.UTF-8", "STEAD_FLEET=" + b.fleet, "STEAD_STORE=" + b.store}
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out.String())
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// overhead measures pairs of builds in turn, each from nothing. The chroot is a copy of
// the root with the project at the same place, on the same file system.
func (b *bench) overhead(ctx context.Context, pairs int) error {
	out, err := exec.CommandContext(ctx, "testdata/hosts/source", "redis", redisSuite).Output()
	if err != nil {
		return fmt.Errorf("fetching sources: %w", err)
	}
	project, root := b.path("redis"), b.path("chroot")
	inside := filepath.Join(root, project)
	for _, words := range [][]string{
		{"cp", "-a", strings.TrimSpace(string(out)), project}, {"cp", "-a", b.root, root}, {"mkdir", "-p", filepath.Dir(inside)},
	} {
		if err := b.command(ctx, b.dir, words[0], words[1:]...); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(project, "stead.toml"), fmt.Appendf(nil,
		"targets = [\"server\"]\n[build]\ncommand = %s\nartifacts = [\"src/redis-server\"]\n", wordList(redisBuild)), 0o644); err != nil {
		return err
	}
	if err := b.command(ctx, b.dir, "cp", "-a", project, inside); err != nil {
		return err
	}
	for _, name := range []string{"proc", "dev"} {
		at := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(at, 0o755), syscall.Mount("/"+name, at, "", syscall.MS_BIND, "")); err != nil {
			return err
		}
		b.cleanup = append(b.cleanup, func() error { return syscall.Unmount(at, syscall.MNT_DETACH) })
	}
	ways := []struct {
		name         string
		clean, build []string
	}{
		{buildEnv, append([]string{b.stead, "build", "--"}, strings.Fields(redisClean)...), []string{b.stead, "build"}},
		{buildChroot, b.inChroot(root, project, redisClean), b.inChroot(root, project, redisBuild)},
	}
	for i := range pairs {
		fmt.Fprintf(os.Stderr, "pair of builds %d of %d\n", i+1, pairs)
		if i%2 == 1 {
			slices.Reverse(ways[:]) // whoever is second has the warmer caches, or the warmer processor
		}
		for _, w := range ways {
			if _, err := b.cpu(ctx, project, w.clean...); err != nil {
				return err
			}
			begun := time.Now()
			used, err := b.cpu(ctx, project, w.build...)
			if err != nil {
				return err
			}
			b.add(w.name, time.Since(begun))
			b.add(w.name+cpuTime, used)
		}
	}
	return nil
}

// wordList is a command as stead.toml has it.
func wordList(command string) string {
	return `["` + strings.Join(strings.Fields(command), `", "`) + `"]`
}

// cpuTime ends the names of what is measured in processor time.
const cpuTime = " (processor time)"

func (b *bench) add(name string, d time.Duration) {
	s := b.sample(name)
	s.times = append(s.times, d)
}

func (b *bench) inChroot(root, project, command string) []string {
	return []string{"chroot", root, "sh", "-c", "cd '" + project + "' && " + command}
}

// noop measures builds for three targets of a project in git with 20,000 files, each of
// which make knows, and make alone.
func (b *bench) noop(ctx context.Context, times int) error {
	const folders, each = 200, 100
	project := b.path("wide")
	for i := range folders {
		dir := filepath.Join(project, fmt.Sprintf("src/part%02d/module%03d", i%20, i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for j := range each {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%02d.txt", j)), fmt.Appendf(nil, "file %d of %d\n", j, i), 0o644); err != nil {
				return err
			}
		}
	}
	files := map[string]string{
		"Makefile": "MAKEFLAGS += --no-builtin-rules\nmodules := $(wildcard src/*/*)\n" +
			"build/all: $(modules:src/%=build/%.o)\n\tcat $^ >$@\n" +
			"define module\nbuild/$(1).o: $(wildcard src/$(1)/*)\n\tmkdir -p $$(dir $$@)\n\tcat $$^ >$$@\nendef\n" +
			"$(foreach m,$(modules:src/%=%),$(eval $(call module,$(m))))\n",
		"stead.toml": "targets = [\"server\", \"second\", \"third\"]\n[build]\ncommand = [\"make\"]\nartifacts = [\"build/all\"]\n",
		".gitignore": "dist\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(project, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, words := range [][]string{
		{"git", "init", "-q"}, {"git", "add", "."},
		{"git", "-c", "user.name=bench", "-c", "user.email=bench@mail.example", "commit", "-q", "-m", "all"},
		{b.stead, "snapshot", b.host, "second", "--yes", "--drop", "/opt/big/**"},
		{b.stead, "snapshot", b.host, "third", "--yes", "--drop", "/opt/big/**"},
		{b.stead, "build", "--all"}, {b.stead, "build", "--all"},
	} {
		if err := b.command(ctx, project, words[0], words[1:]...); err != nil {
			return err
		}
	}
	views, err := filepath.Glob(filepath.Join(b.store, "views", "*", "third", "files", "src"))
	if err != nil || len(views) != 1 {
		return errors.Join(err, fmt.Errorf("found the views %v", views))
	}
	for range times {
		for _, s := range []step{
			{name: noopBuild, do: func(ctx context.Context) error { return b.command(ctx, project, b.stead, "build", "--all") }},
			{name: noopMake, do: func(ctx context.Context) error { return b.command(ctx, filepath.Dir(views[0]), "make") }},
		} {
			if err := b.measure(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildRatios prints what is asked of builds.
func (b *bench) buildRatios() {
	env, chroot := b.sample(buildEnv+cpuTime).times, b.sample(buildChroot+cpuTime).times
	if len(env) == 0 || len(env) != len(chroot) {
		return
	}
	var ratios []time.Duration // as nanoseconds for seconds: median is for durations
	for i := range env {
		ratios = append(ratios, time.Duration(env[i].Seconds()/chroot[i].Seconds()*float64(time.Second)))
	}
	fmt.Printf("- %s / %s, processor time, of %d pairs: median %.3f, %.3f – %.3f (asked: at most 1.03)\n", buildEnv, buildChroot, len(ratios),
		median(ratios).Seconds(), slices.Min(ratios).Seconds(), slices.Max(ratios).Seconds())
	if all, alone := b.sample(noopBuild).times, b.sample(noopMake).times; len(all) > 0 && len(alone) > 0 {
		fmt.Printf("- %s, beyond make in one of them: %s (asked: under 2 s)\n", noopBuild, seconds(median(all)-median(alone)))
	}
}
