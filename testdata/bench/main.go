// Command bench measures stead against its yardsticks on one made host, all in one run and
// interleaved, so that a noisy machine is noisy for each, and prints the table that
// README.md has. Run as root, by `make bench`.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 3, "how often each long thing is measured; 0 for starts and builds alone")
	starts := flag.Int("starts", 40, "how often a container is started in each way")
	pairs := flag.Int("builds", 10, "how often a project is built in an env and in a chroot; 0 for not")
	targets := flag.Bool("targets", true, "compare the disk that one target takes with that of nine")
	checks := flag.Int("checks", 20, "how often this machine's programs are judged; 0 for not")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *rounds, *starts, *pairs, *checks, *targets); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds, starts, pairs, checks int, targets bool) error {
	if os.Getuid() != 0 {
		return fmt.Errorf("making a host: that needs root")
	}
	b, err := prepare(ctx, rounds == 0)
	if err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, func() error { return os.RemoveAll(b.dir) })
	defer func() {
		for _, f := range slices.Backward(b.cleanup) {
			if err := f(); err != nil {
				fmt.Fprintln(os.Stderr, "clearing up:", err)
			}
		}
	}()
	for i := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, rounds)
		for _, s := range b.steps() {
			if err := b.measure(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	if err := b.starts(ctx, starts); err != nil {
		return err
	}
	if err := b.builds(ctx, pairs); err != nil {
		return err
	}
	if err := b.checks(ctx, checks); err != nil {
		return err
	}
	if targets {
		if err := b.disk(ctx); err != nil {
			return fmt.Errorf("measuring disk: %w", err)
		}
	}
	b.print()
	return nil
}

// step is one thing to measure: before and after are not timed.
type step struct {
	name          string
	before, after func(ctx context.Context) error
	do            func(ctx context.Context) error
	durable       bool // is done when all is on the disk, as a pull is by itself
}

// sample is what was measured of one thing.
type sample struct {
	name   string
	times  []time.Duration
	memory int64 // peak resident memory of its process, bytes; 0 where there was none
}

func (b *bench) sample(name string) *sample {
	for _, s := range b.samples {
		if s.name == name {
			return s
		}
	}
	s := &sample{name: name}
	b.samples = append(b.samples, s)
	return s
}

func (b *bench) measure(ctx context.Context, s step) error {
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return err
		}
	}
	syscall.Sync() // what the step before left to write is not this one's
	b.memory = 0
	begin := time.Now()
	if err := s.do(ctx); err != nil {
		return err
	}
	if s.durable {
		syscall.Sync()
	}
	took := time.Since(begin)
	m := b.sample(s.name)
	m.times = append(m.times, took)
	m.memory = max(m.memory, b.memory)
	if s.after != nil {
		return s.after(ctx)
	}
	return nil
}

// command runs a program with its output in a log, and notes its peak memory.
func (b *bench) command(ctx context.Context, dir string, name string, args ...string) error {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(os.Environ(), "STEAD_FLEET="+b.fleet, "STEAD_STORE="+b.store)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, errs.String())
	}
	b.memory = max(b.memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	b.output = out.String()
	return nil
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// seconds writes a duration for people.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func (b *bench) print() {
	fmt.Printf("%s\n\n| what | median | least – most | runs | peak memory |\n| --- | --- | --- | --- | --- |\n", b.title)
	for _, s := range b.samples {
		if len(s.times) == 0 {
			continue
		}
		memory := ""
		if s.memory > 0 && strings.HasPrefix(s.name, "stead") {
			memory = fmt.Sprintf("%d MB", s.memory/1e6)
		}
		fmt.Printf("| %s | %s | %s – %s | %d | %s |\n", s.name, seconds(median(s.times)),
			seconds(slices.Min(s.times)), seconds(slices.Max(s.times)), len(s.times), cmp.Or(memory, "–"))
	}
	fmt.Println()
	b.ratio(mmdebstrap, pullCold, "at least", 3)
	b.ratio(unsynced, pullCold, "", 0)
	b.ratio(pullCold, decompress, "at most", 1.5)
	b.ratio(pullCold, untar, "", 0)
	b.startRatios()
	b.buildRatios()
	b.checkRatios()
	if b.diskRatio != "" {
		fmt.Println("- " + b.diskRatio)
	}
}

// ratio prints how two medians compare, and what is asked for; nothing where one of
// them was not measured.
func (b *bench) ratio(over, under, word string, asked float64) {
	if len(b.sample(over).times) == 0 || len(b.sample(under).times) == 0 {
		return
	}
	r := median(b.sample(over).times).Seconds() / median(b.sample(under).times).Seconds()
	goal := ""
	if word != "" {
		goal = fmt.Sprintf(" (asked: %s %g)", word, asked)
	}
	fmt.Printf("- %s / %s: %.2f%s\n", over, under, r, goal)
}
