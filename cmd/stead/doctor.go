package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime/chroot"
	"github.com/stead-env/stead/runtime/machine"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/rootless"
)

// diagnosis is what doctor answers.
type diagnosis struct {
	Groups  []checkGroup  `json:"groups"`
	Engines []engineState `json:"engines"`
	Chosen  string        `json:"chosen"` // by --engine, $STEAD_ENGINE or the configuration; or auto
	Taken   string        `json:"taken"`  // "" where none works
}

// checkGroup are checks of what makes one thing possible.
type checkGroup struct {
	Name   string          `json:"name"`
	Checks []machine.Check `json:"checks"`
}

// engineState says whether an engine works here.
type engineState struct {
	Name   string `json:"name"`
	Works  bool   `json:"works"`
	Why    string `json:"why"` // it doesn't
	Remedy string `json:"remedy"`
}

func newDoctor(g *globals) *cobra.Command {
	var asJSON bool
	var name string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine lets sessions do, and what is missing",
		Long: "doctor tries what sessions need on this machine, changes nothing, and says for each thing that is\n" +
			"missing what to do about it. The exit code is 3 where the engine that would be taken doesn't work.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			user, err := envs.ReadUserConfig()
			if err != nil {
				return err
			}
			chosen, err := namedEngine(user, name)
			if err != nil {
				return err
			}
			d, err := diagnose(cmd.Context(), user, chosen)
			if err != nil {
				return err
			}
			if asJSON {
				err = g.printJSON(d)
			} else {
				err = d.print(g.stdout)
			}
			if err == nil && d.Taken == "" {
				return exitCode(exitNegative)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	engineFlag(cmd.Flags(), &name)
	return cmd
}

// newTries is the part of doctor that needs a process like those of sessions, which
// an ordinary user's command becomes in a namespace. Nobody types it.
func newTries(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "doctor-tries STORE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t := machine.Try(cmd.Context(), oci.New(""), args[0])
			t.Alone = g.alone
			return g.printJSON(t)
		},
	}
}

// patience is how long a session may take that does nothing.
const patience = 30 * time.Second

// tries has a copy of this program try.
func tries(ctx context.Context, store string) (t machine.Tries, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	ctx, stop := context.WithTimeoutCause(ctx, patience, errors.New("it did not end"))
	defer stop()
	cmd := exec.CommandContext(ctx, self, "doctor-tries", store)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &t)
	}
	if err == nil {
		return t, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return t, fmt.Errorf("trying a session: %w: %.300s", err, errs.String())
}

func diagnose(ctx context.Context, user envs.UserConfig, chosen string) (*diagnosis, error) {
	store, err := envs.StoreDir()
	if err != nil {
		return nil, err
	}
	tried, err := tries(ctx, store)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		tried = machine.NotTried(err)
	}
	d := &diagnosis{Chosen: chosen}
	d.add("sessions", append([]machine.Check{machine.Kernel(), tried.Mounts, tried.Overlay, machine.Seccomp(), machine.Cgroups()},
		append(machine.Runtimes(), tried.Session)...)...)
	d.add("sessions of ordinary users", userChecks(tried)...)
	d.add("store", append(machine.Store(store, envs.Bytes), tried.Upper)...)
	d.add("old and foreign userlands", machine.Vsyscall(), machine.Processors())
	d.add("programs", machine.Programs()...)
	d.add("CI containers", machine.FromError("chroot", "Where neither mounts nor user namespaces are allowed, run and build work on a copy.",
		"this process may change its root", chroot.New().Check(ctx), machine.Warning))
	d.engines(ctx, user, tried)
	return d, nil
}

// userChecks are about user namespaces, and the ids in them.
func userChecks(tried machine.Tries) []machine.Check {
	list := []machine.Check{machine.FromError("user namespaces", "An ordinary user's sessions are in one.", "one was made",
		rootless.Check(), machine.Missing)}
	if os.Geteuid() == 0 {
		return list // the others are about an account that doesn't need them
	}
	list = append(list, machine.Account(),
		machine.FromError("subordinate ids", "Files in envs have their owners, and there are other users than you and root.",
			"you have enough", rootless.CheckRanges(), machine.Warning),
		machine.FromError("newuidmap", "It maps subordinate ids, with newgidmap.", "both are there, with the rights they need",
			rootless.CheckTools(), machine.Warning))
	if tried.Alone != "" {
		list = append(list, machine.Check{Name: "ids", State: machine.Warning, For: "Without subordinate ids all files in envs are yours.",
			Found: tried.Alone})
	}
	return list
}

func (d *diagnosis) add(name string, checks ...machine.Check) {
	d.Groups = append(d.Groups, checkGroup{name, checks})
}

// engines finds out which engines work, and which one run would take.
func (d *diagnosis) engines(ctx context.Context, user envs.UserConfig, tried machine.Tries) {
	works := map[string]bool{}
	for _, e := range engines {
		one := engineState{Name: e.name}
		if e.name == engines[0].name {
			one.fromCheck(tried.Session)
		} else {
			one.fromCheck(machine.FromError("", "", "", e.make(user).Check(ctx), machine.Missing))
		}
		works[e.name] = one.Works
		d.Engines = append(d.Engines, one)
	}
	switch {
	case d.Chosen != engineAuto:
		if works[d.Chosen] {
			d.Taken = d.Chosen
		}
	case works[engines[0].name]:
		d.Taken = engines[0].name
	case tried.Mounts.State != machine.OK && works[chroot.New().Name()]:
		d.Taken = chroot.New().Name()
	}
}

func (e *engineState) fromCheck(c machine.Check) {
	if e.Works = c.State == machine.OK; !e.Works {
		e.Why, e.Remedy = c.Found, c.Remedy
	}
}

// print writes it for people.
func (d *diagnosis) print(w io.Writer) error {
	var b strings.Builder
	for _, g := range d.Groups {
		fmt.Fprintf(&b, "%s\n", g.Name)
		for _, c := range g.Checks {
			fmt.Fprintf(&b, "  %-8s %s: %s\n", c.State, c.Name, clean(c.Found))
			if c.State != machine.OK {
				fmt.Fprintf(&b, "           %s\n", c.For)
				if c.Remedy != "" {
					fmt.Fprintf(&b, "           remedy: %s\n", clean(c.Remedy))
				}
			}
		}
	}
	b.WriteString("engines\n")
	for _, e := range d.Engines {
		if e.Works {
			fmt.Fprintf(&b, "  %-8s %s\n", machine.OK, e.Name)
			continue
		}
		fmt.Fprintf(&b, "  %-8s %s: %s\n", machine.Missing, e.Name, clean(e.Why))
	}
	switch {
	case d.Taken == "" && d.Chosen == engineAuto:
		b.WriteString("no engine works here: see the remedies above\n")
	case d.Taken == "":
		fmt.Fprintf(&b, "the %s engine, which is asked for, doesn't work here\n", d.Chosen)
	case d.Taken == chroot.New().Name() && d.Chosen == engineAuto:
		fmt.Fprintf(&b, "the %s engine is taken, for run and build: it isolates files, but neither processes nor the network\n", d.Taken)
	default:
		fmt.Fprintf(&b, "the %s engine is taken\n", d.Taken)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
