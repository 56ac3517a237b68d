package envs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ChangeTools changes what stead.toml asks for, for one target or, where that is "", for
// the project: change gets the list and gives another. First that is solved for, for all
// targets that it touches; where one has no solution nothing changes. What others write
// meanwhile isn't lost: the change is made to the files as they are in the end.
func (p *Project) ChangeTools(ctx context.Context, cfg Config, target string, change func([]string) ([]string, error), opts UpdateOptions) (done []Updated, err error) {
	err = p.alone(ctx, cfg, func() (again bool, err error) {
		done, again, err = p.changeTools(ctx, cfg, target, change, opts)
		return again, err
	})
	return done, err
}

func (p *Project) changeTools(ctx context.Context, cfg Config, target string, change func([]string) ([]string, error), opts UpdateOptions) (done []Updated, again bool, err error) {
	listed, err := p.Wanted(nil)
	if err != nil {
		return nil, false, err
	}
	if target != "" && !slices.ContainsFunc(listed, func(r Ref) bool { return r.Target == target }) {
		return nil, false, &UnknownError{Kind: "target", Name: target, Of: ProjectFile, Known: p.Config.Targets}
	}
	old := p.Config.Tools
	if target != "" {
		_, old, _ = p.Config.For(target)
	}
	wishes, err := change(slices.Clone(old))
	if err != nil {
		return nil, false, err
	}
	next := &Project{Dir: p.Dir, Config: p.Config.withTools(target, wishes), Configured: true}
	if err := p.canEdit(target, wishes); err != nil {
		return nil, false, err
	}
	refs := slices.DeleteFunc(listed, func(r Ref) bool {
		_, before, _ := p.Config.For(r.Target)
		_, after, _ := next.Config.For(r.Target)
		return slices.Equal(before, after)
	})
	done, choices, err := next.choices(ctx, cfg, refs, opts)
	if err = errors.Join(append(Failures(done), err)...); err != nil {
		return nil, false, err
	}
	err = p.exclusive(func() error {
		if again = p.moved(); again {
			return nil
		}
		if err := p.writeTools(target, wishes); err != nil {
			return err
		}
		p.Config = next.Config
		return p.writeLock(func(l projectLock) projectLock {
			for _, c := range choices {
				l = l.with(*c)
			}
			return l
		})
	})
	return done, again, err
}

// changesAtMost bounds how often a change is begun anew because a file changed meanwhile.
const changesAtMost = 5

// alone changes the project's files while no other process with this store does, and
// again where one beside it changed stead.toml: change says so. It goes by the stead.toml
// that is there then.
func (p *Project) alone(ctx context.Context, cfg Config, change func() (again bool, err error)) error {
	if cfg.Store != nil && p.Configured {
		done, err := p.waitAlone(ctx, cfg)
		if err != nil {
			return err
		}
		defer done()
	}
	for range changesAtMost {
		if p.moved() {
			if err := p.read(); err != nil {
				return err
			}
		}
		if again, err := change(); !again || err != nil {
			return err
		}
	}
	return fmt.Errorf("changing %s: something else keeps changing it", filepath.Join(p.Dir, ProjectFile))
}

// waitAlone waits for whoever else changes the project, and says so when it takes long.
func (p *Project) waitAlone(ctx context.Context, cfg Config) (release func(), err error) {
	const kind = "projects"
	sum := sha256.Sum256([]byte(p.Dir))
	name := hex.EncodeToString(sum[:])
	soon, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if release, err = cfg.Store.Lock(soon, kind, name); err == nil || ctx.Err() != nil {
		return release, err
	}
	cfg.Progress.Note("choosing tools", "waiting for another stead that changes this project")
	return cfg.Store.Lock(ctx, kind, name)
}

// exclusive calls fn while no other process changes the project's files.
func (p *Project) exclusive(fn func() error) error {
	d, err := os.Open(p.Dir)
	if err != nil {
		return fmt.Errorf("writing to %s: %w", p.Dir, cause(err))
	}
	defer d.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOLCK) {
		return fmt.Errorf("writing to %s: %w", p.Dir, err)
	}
	return fn()
}

// moved reports whether stead.toml isn't what was read any more.
func (p *Project) moved() bool {
	if !p.Configured {
		return false
	}
	now, err := readBounded(filepath.Join(p.Dir, ProjectFile), maxConfig)
	return err != nil || !bytes.Equal(now, p.text)
}

// nowFor are the tools that stead.toml asks for by now: it may have changed since it was
// read.
func (p *Project) nowFor(target string) []string {
	now := &Project{Dir: p.Dir, Configured: true}
	if !p.moved() || now.read() != nil {
		now = p
	}
	_, wishes, _ := now.Config.For(target)
	return wishes
}
