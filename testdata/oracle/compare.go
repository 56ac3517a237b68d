package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/loader"
)

// outcome is what comparing one verdict with a real loader's answer comes to.
type outcome string

// The outcomes.
const (
	agreed    outcome = "agreed"
	beyond    outcome = "beyond"   // fails for what no loader looks at
	unproven  outcome = "unproven" // stead says that it can't know
	disagreed outcome = "disagreed"
)

// moments are when a start fails.
type moment int

const (
	never moment = iota
	call
	load
)

func (m moment) String() string { return [...]string{"starts", "fails when called", "fails"}[m] }

// loaderKinds are the reasons that a loader, or the kernel, would give as well.
var loaderKinds = []loader.Kind{loader.NoLoader, loader.WrongMachine, loader.MissingLibrary, loader.BadLibrary,
	loader.MissingVersion, loader.MissingSymbol}

// real is when the target says that it fails, and why.
func (a answer) real() (moment, string) {
	atLoad, atCall := a.worst()
	switch {
	case a.Exec != "":
		return load, a.Exec
	case len(atLoad) > 0:
		return load, a.Load[0]
	case len(atCall) > 0 && a.Now:
		return load, a.Call[0]
	case len(atCall) > 0:
		return call, a.Call[0]
	}
	return never, "nothing"
}

// ours is when stead says that it fails, for reasons of a loader's.
func ours(v artifact.Answer) (m moment, other string) {
	for _, r := range v.Reasons {
		switch {
		case r.Verdict != artifact.Fails:
		case r.Kind != "interpreter" && !slices.Contains(loaderKinds, loader.Kind(r.Kind)):
			other = cmp.Or(other, r.Kind)
		case r.When == "call":
			m = max(m, call)
		default:
			m = load
		}
	}
	return m, other
}

// compare says whether a verdict and an answer are the same, and if not, how they differ.
func compare(a answer, v artifact.Answer) (outcome, string) {
	asked, why := a.real()
	said, other := ours(v)
	switch {
	case v.Verdict == artifact.Unproven && len(v.Reasons) == 0:
		return disagreed, "unproven without a reason"
	case v.Verdict == artifact.Unproven:
		return unproven, reasonOf(v, artifact.Unproven).Kind
	case v.Verdict == artifact.Starts && a.Overlooked != "":
		return disagreed, "stead: starts; really " + a.Overlooked + " doesn't look for it there"
	case v.Verdict == artifact.Starts && asked == never:
		return agreed, ""
	case v.Verdict == artifact.Fails && other == "module-abi" && (a.Overlooked != "" || asked == load):
		return agreed, ""
	case v.Verdict == artifact.Fails && other == "module-abi" && said == never && asked == never:
		return disagreed, "stead: " + reasonOf(v, artifact.Fails).Text + "; really it is looked for there"
	case v.Verdict == artifact.Fails && other != "" && asked >= said:
		return beyond, other
	case v.Verdict == artifact.Fails && asked == said:
		return agreed, ""
	}
	if v.Verdict == artifact.Starts {
		return disagreed, fmt.Sprintf("stead: starts; %s: %s (%s)", a.Way, asked, why)
	}
	return disagreed, fmt.Sprintf("stead: %s (%s); %s: %s (%s)", said, reasonOf(v, artifact.Fails).Text, a.Way, asked, why)
}

// essence is a verdict without words for people: which libraries are near that is missing
// takes an index to know.
func essence(v artifact.Answer) string {
	text := string(v.Verdict)
	for _, r := range v.Reasons {
		text += fmt.Sprintf(", %s %s %s %s %s %s", r.Verdict, r.Kind, r.Library, r.Symbol, r.Version, r.When)
	}
	return text
}

// reasonOf is the first reason that leads to a verdict.
func reasonOf(v artifact.Answer, verdict artifact.Verdict) artifact.Reason {
	for _, r := range v.Reasons {
		if r.Verdict == verdict {
			return r
		}
	}
	return artifact.Reason{Kind: "none", Text: "no reason"}
}

// tally counts what the comparisons of one pair of hosts come to.
type tally struct {
	source, target string
	outcomes       map[outcome]int
	moments        map[moment]int // of the real answers
	kinds          map[string]int // of what is beyond or unproven
	lines          []string       // a line for each file that isn't agreed on
	disagreements  []string
}

func newTally(source, target string) *tally {
	return &tally{source: source, target: target,
		outcomes: map[outcome]int{}, moments: map[moment]int{}, kinds: map[string]int{}}
}

// tallyOf compares answers with the verdicts by a target's index, and those with others by
// its root.
func tallyOf(source, target string, answers []answer, verdicts, others map[string]artifact.Answer) *tally {
	t := newTally(source, target)
	for _, a := range answers {
		if a.Way == noPlace {
			continue
		}
		v, ok := verdicts[a.Path]
		o, why := compared(a, v, ok)
		if source == target && v.Verdict == artifact.Fails {
			o, why = disagreed, "fails where it is installed: "+reasonOf(v, artifact.Fails).Text
		}
		if other := essence(others[a.Path]); essence(v) != other {
			o, why = disagreed, fmt.Sprintf("stead by the index: %s; by the root: %s", essence(v), other)
		}
		t.count(a, v, a.Path, o, why)
	}
	return t
}

// compared is compare for a file that stead may have passed over.
func compared(a answer, v artifact.Answer, ok bool) (outcome, string) {
	if !ok {
		return disagreed, "stead says nothing of it"
	}
	return compare(a, v)
}

// count counts one file by a name for it.
func (t *tally) count(a answer, v artifact.Answer, name string, o outcome, why string) {
	m, _ := a.real()
	t.moments[m]++
	t.outcomes[o]++
	switch o {
	case beyond, unproven:
		t.kinds[string(o)+": "+why]++
		text := reasonOf(v, v.Verdict).Text
		t.lines = append(t.lines, fmt.Sprintf("%s %s (%s): %s; really %s", o, name, why, text, m))
	case disagreed:
		line := fmt.Sprintf("disagreed %s: %s", name, why)
		t.lines = append(t.lines, line)
		t.disagreements = append(t.disagreements, line)
	}
}

func (t *tally) total() (n int) {
	for _, m := range t.moments {
		n += m
	}
	return n
}

const form = "%-9s %-9s %7v %7v %7v %7v  %7v %7v %14s %9v\n"

func heading(w io.Writer) {
	fmt.Fprintf(w, form, "of", "on", "files", "start", "fail", "by call", "agreed", "beyond", "unproven", "disagreed")
}

func (t *tally) print(w io.Writer) {
	share := fmt.Sprintf("%d (%.1f%%)", t.outcomes[unproven], 100*t.unproven())
	fmt.Fprintf(w, form, t.source, t.target, t.total(), t.moments[never], t.moments[load], t.moments[call],
		t.outcomes[agreed], t.outcomes[beyond], share, t.outcomes[disagreed])
}

func (t *tally) unproven() float64 {
	return float64(t.outcomes[unproven]) / float64(max(t.total(), 1))
}

// add counts what another pair came to, too.
func (t *tally) add(other *tally) {
	for k, n := range other.outcomes {
		t.outcomes[k] += n
	}
	for k, n := range other.moments {
		t.moments[k] += n
	}
	for k, n := range other.kinds {
		t.kinds[k] += n
	}
}

// reasons prints what was beyond and what unproven, the largest groups first.
func (t *tally) reasons(w io.Writer) {
	for _, kind := range slices.SortedFunc(maps.Keys(t.kinds), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.kinds[b], t.kinds[a]), strings.Compare(a, b))
	}) {
		fmt.Fprintf(w, "%7d %s\n", t.kinds[kind], kind)
	}
}
