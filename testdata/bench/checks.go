package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// What is measured of verdicts, of this machine's own programs.
const (
	checkMany   = "stead check, these programs, one target"
	checkLive   = "stead check, these programs, for this machine"
	checkOne    = "stead check, one program, one target"
	treeFull    = "libtree -vvv, these programs: every library of each"
	treeBrief   = "libtree, these programs: no library twice, none of the C library's"
	mostChecked = 700
)

// checks measures verdicts in turns with libtree, which looks for libraries alone.
func (b *bench) checks(ctx context.Context, times int) error {
	if times == 0 {
		return nil
	}
	programs, err := ownPrograms("/usr/bin", "/usr/sbin")
	if err != nil {
		return err
	}
	b.checked = len(programs)
	if err := b.server(ctx); err != nil {
		return err
	}
	verdicts := func(args ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			err := b.command(ctx, b.path("project"), b.stead, append([]string{"check", "--json"}, args...)...)
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 3 { // some don't start there
				return nil
			}
			return err
		}
	}
	tree := func(flags ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			cmd := exec.CommandContext(ctx, "libtree", append(flags, programs...)...)
			out, err := cmd.Output()
			if len(out) == 0 { // it exits with 1 where anything is missing
				return fmt.Errorf("libtree says nothing: %w", err)
			}
			return nil
		}
	}
	steps := []step{
		{name: checkMany, do: verdicts(append([]string{"--for", "server"}, programs...)...)},
		{name: checkLive, do: verdicts(append([]string{"--for", "/"}, programs...)...)},
		{name: checkOne, do: verdicts("--for", "server", "/usr/bin/apt-get")},
	}
	if _, err := exec.LookPath("libtree"); err == nil {
		steps = append(steps, step{name: treeFull, do: tree("-vvv")}, step{name: treeBrief, do: tree()})
	}
	for i := range times + 1 {
		for _, s := range steps {
			if i == 0 { // to be warm
				if err := s.do(ctx); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				continue
			}
			if err := b.measure(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// ownPrograms are the ELF files in folders of this machine.
func ownPrograms(dirs ...string) (programs []string, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			p := filepath.Join(dir, e.Name())
			if e.Type().IsRegular() && beginsAsELF(p) && len(programs) < mostChecked {
				programs = append(programs, p)
			}
		}
	}
	return programs, nil
}

func beginsAsELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	_, err = f.Read(head)
	return err == nil && bytes.Equal(head, []byte("\x7fELF"))
}

// checkRatios compares what was measured of verdicts.
func (b *bench) checkRatios() {
	if b.checked == 0 {
		return
	}
	fmt.Printf("- %d programs (asked: at most 1 s; one alone at most 60 ms from start to exit)\n", b.checked)
	b.ratio(checkMany, treeFull, "at most", 1)
	b.ratio(checkMany, treeBrief, "", 0)
}
