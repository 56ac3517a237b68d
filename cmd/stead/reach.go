package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot/host"
)

// reachFlags are snapshot's for hosts that are read by commands: over ssh, or by sudo.
type reachFlags struct {
	limit  string
	dryRun bool
}

func (f *reachFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.limit, "limit-rate", "", "for ssh, read at most so many bytes a second: 500k, 2M")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the commands that would run on the host, and run none")
}

// traffic are the bytes between us and a host, as far as they are known.
type traffic struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

func trafficOf(h openedHost) *traffic {
	s, ok := h.(*host.Shell)
	if !ok {
		return nil
	}
	var t traffic
	t.Sent, t.Received = s.Traffic()
	return &t
}

// answered is what snapshot answers as JSON.
type answered struct {
	*envs.SnapshotResult
	Traffic *traffic `json:"traffic,omitempty"`
}

// shellOptions are those of a host at an address.
func (w *work) shellOptions(ctx context.Context, address string) (host.Options, error) {
	o := host.Options{Progress: w.config.Progress, Terminal: isTerminal(os.Stdin)}
	if w.limit != "" {
		var err error
		if o.Rate, err = host.ParseRate(w.limit); err != nil {
			return o, usagef("--limit-rate: %w", err)
		}
	}
	var err error
	o.Temp, err = w.config.Store.WorkDir("host")
	o.Cache = filepath.Join(w.config.Store.Dir(), "cache", fmt.Sprintf("received-%x", sha256.Sum256([]byte(address))))
	o.Skip = []string{w.config.Store.Dir(), w.fleet.Dir()}
	o.Lookup = storedContents(ctx, w.config.Store)
	return o, err
}

// storedContents finds files in the store's trees, whose manifests are read when the
// first is looked for.
func storedContents(ctx context.Context, st *store.Store) func(string) (io.ReadCloser, bool) {
	all := sync.OnceValue(func() *store.Contents {
		c, err := st.Contents(ctx)
		if err != nil {
			return nil
		}
		return c
	})
	return func(sum string) (io.ReadCloser, bool) {
		c := all()
		if c == nil {
			return nil, false
		}
		r, err := c.Open(sum)
		return r, err == nil
	}
}

// openSSH opens ssh://[user@]host[:port].
func openSSH(ctx context.Context, rest string, w *work) (openedHost, string, error) {
	address := "ssh:" + rest
	o, err := w.shellOptions(ctx, address)
	if err != nil {
		return nil, "", err
	}
	s, err := host.SSH(ctx, address, o)
	if err != nil {
		return nil, "", err
	}
	return s, s.Address(), nil
}

// openFolder opens a folder of this machine; what an ordinary user can't read of it goes
// through sudo where that asks for no password.
func openFolder(ctx context.Context, abs string, w *work) (openedHost, error) {
	if host.NeedsRoot(abs) && host.CanSudo(ctx) {
		o, err := w.shellOptions(ctx, abs)
		if err != nil {
			return nil, err
		}
		o.Cache, o.Lookup = "", nil // nothing is far
		return host.Sudo(ctx, abs, o)
	}
	return host.Folder(abs, w.config.Store.Dir(), w.fleet.Dir())
}

// finish drops what a host that is read by commands keeps for an interrupted snapshot.
func finish(h openedHost) error {
	if s, ok := h.(*host.Shell); ok {
		return s.Finish()
	}
	return nil
}

// forgetful drops what was received from a host when it isn't accepted: it was asked
// whether it may leave, and secrets may be among it.
func forgetful(h openedHost, accept func(*envs.Review) error) func(*envs.Review) error {
	return func(r *envs.Review) error {
		err := accept(r)
		if err != nil {
			err = errors.Join(err, finish(h))
		}
		return err
	}
}

const noCommand = "# no command: this program itself reads %s\n"

// dryRun shows what would run on a host.
func dryRun(g *globals, address string) error {
	if scheme, _, ok := strings.Cut(address, ":"); ok && scheme != "ssh" && schemes[scheme] != nil {
		return usagef("--dry-run is for hosts that are read by commands, not by %s", scheme)
	}
	if !strings.HasPrefix(address, "ssh:") && !host.NeedsRoot(address) {
		fmt.Fprintf(g.stdout, noCommand, clean(address))
		return nil
	}
	steps, err := host.Commands(address)
	if err != nil {
		return &usageError{err}
	}
	for _, s := range steps {
		fmt.Fprintf(g.stdout, "# %s\n%s\n", s.Purpose, s.Line)
	}
	return nil
}
