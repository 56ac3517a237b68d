package main

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
)

// What people are shown of a check; --json has all of it.
const (
	checkRows    = 24 // of the table, where some of the files start everywhere
	checkGroups  = 16 // of files that have the same reasons
	checkReasons = 8  // of one group
	checkWays    = 5  // of one reason
	checkNames   = 4  // of a group's files
)

// printChecked tells people what a check came to.
func printChecked(out io.Writer, c *envs.Checked, strict bool) error {
	var b strings.Builder
	if len(c.Answers) == 1 {
		a := c.Answers[0]
		fmt.Fprintf(&b, "%s %s\n", clean(a.File), sentence(a))
	} else if err := checkTable(&b, c); err != nil {
		return err
	}
	for _, t := range c.Targets {
		tellWhy(&b, c, t.Name, len(c.Answers) == 1)
	}
	if c.Fails+c.Unproven > 0 && len(c.Answers) != 1 {
		b.WriteString("\n")
	}
	if len(c.Answers) != 1 {
		fmt.Fprintln(&b, summary(c))
	}
	if strict && c.Fails == 0 && c.Unproven > 0 {
		fmt.Fprintln(&b, "--strict: what is unproven fails")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// sentence is a verdict for people: "starts on acme@3".
func sentence(a artifact.Answer) string {
	if a.Verdict == artifact.Unproven {
		return "is unproven on " + a.Target
	}
	return fmt.Sprintf("%s on %s", a.Verdict, a.Target)
}

// summary counts: "12 files on 2 targets: 20 start, 3 fail, 1 is unproven".
func summary(c *envs.Checked) string {
	files := map[string]bool{}
	for _, a := range c.Answers {
		files[a.File] = true
	}
	var parts []string
	for _, p := range []struct {
		n         int
		one, many string
	}{{c.Starts, "starts", "start"}, {c.Fails, "fails", "fail"}, {c.Unproven, "is unproven", "are unproven"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.one)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.many))
		}
	}
	on := c.Targets[0].Name
	if len(c.Targets) > 1 {
		on = fmt.Sprintf("%d targets", len(c.Targets))
	}
	return fmt.Sprintf("%s on %s: %s", counted(len(files), "file"), on, strings.Join(parts, ", "))
}

// checkTable has a row for each file and a column for each target, or the other way
// round where there are more targets.
func checkTable(out io.Writer, c *envs.Checked) error {
	var files, targets []string
	cells := map[[2]string]artifact.Verdict{}
	worse := map[string]bool{} // files that don't start everywhere
	for _, t := range c.Targets {
		targets = append(targets, t.Name)
	}
	for _, a := range c.Answers {
		if !slices.Contains(files, a.File) {
			files = append(files, a.File)
		}
		cells[[2]string{a.File, a.Target}] = a.Verdict
		worse[a.File] = worse[a.File] || a.Verdict != artifact.Starts
	}
	if len(files) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(files) < len(targets) {
		fmt.Fprint(w, "TARGET")
		for _, f := range files {
			fmt.Fprintf(w, "\t%s", clean(f))
		}
		fmt.Fprintln(w)
		for _, t := range targets {
			fmt.Fprint(w, t)
			for _, f := range files {
				fmt.Fprintf(w, "\t%s", cmp.Or(cells[[2]string{f, t}], "-"))
			}
			fmt.Fprintln(w)
		}
		return w.Flush()
	}
	left := 0
	fmt.Fprintf(w, "FILE\t%s\n", strings.Join(targets, "\t"))
	for _, f := range files {
		if len(files) > checkRows && !worse[f] {
			left++
			continue
		}
		fmt.Fprint(w, clean(f))
		for _, t := range targets {
			fmt.Fprintf(w, "\t%s", cmp.Or(cells[[2]string{f, t}], "-"))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(out, "and %d more, which start\n", left)
	}
	return nil
}

// sameReasons are files that have the same verdict for the same reasons.
type sameReasons struct {
	verdict artifact.Verdict
	files   []string
	reasons []artifact.Reason
	travels []string
}

// tellWhy tells why files don't start on a target: once for all that have the same
// reasons. Alone, a file has been named already, and remarks are told, too.
func tellWhy(b *strings.Builder, c *envs.Checked, target string, alone bool) {
	var groups []*sameReasons
	byKey := map[string]*sameReasons{}
	for _, a := range c.Answers {
		if a.Target != target || a.Verdict == artifact.Starts && !alone {
			continue
		}
		key := reasonsKey(a)
		g := byKey[key]
		if g == nil {
			g = &sameReasons{verdict: a.Verdict, reasons: a.Reasons, travels: a.Travels}
			byKey[key] = g
			groups = append(groups, g)
		}
		g.files = append(g.files, a.File)
	}
	slices.SortStableFunc(groups, func(x, y *sameReasons) int {
		return cmp.Or(cmp.Compare(x.verdict, y.verdict), cmp.Compare(len(y.files), len(x.files))) // fails before unproven
	})
	for i, g := range groups {
		if i == checkGroups {
			fmt.Fprintf(b, "\n… and %d more reasons on %s: --json has them all\n", len(groups)-i, target)
			break
		}
		g.print(b, target, alone)
	}
}

// reasonsKey is the same for answers that are told together.
func reasonsKey(a artifact.Answer) string {
	var key strings.Builder
	key.WriteString(string(a.Verdict))
	for _, r := range a.Reasons {
		if r.Verdict == artifact.Starts {
			continue
		}
		fmt.Fprintf(&key, "\x00%s\x00%s", r.Verdict, withoutName(withoutName(r.Text, a.File), path.Base(a.File)))
	}
	return key.String()
}

// withoutName is a text with a file's name left out where it stands as a word.
func withoutName(text, file string) string {
	var b strings.Builder
	inName := func(s string) bool { return s != "" && !strings.ContainsAny(s, " :,;()'\"") }
	for {
		before, after, found := strings.Cut(text, file)
		b.WriteString(before)
		if !found || file == "" {
			return b.String()
		}
		if inName(before[max(len(before)-1, 0):]) || inName(after[:min(len(after), 1)]) {
			b.WriteString(file)
		}
		text = after
	}
}

// print tells of one group.
func (g *sameReasons) print(b *strings.Builder, target string, alone bool) {
	if !alone {
		verb := string(g.verdict)
		if g.verdict == artifact.Unproven {
			verb = "unproven"
		}
		fmt.Fprintf(b, "\n%s on %s: %s\n", verb, target, clean(names(g.files)))
	}
	if len(g.travels) > 0 && alone {
		fmt.Fprintf(b, "  with %s, which it brings along\n", clean(names(g.travels)))
	}
	reasons := slices.DeleteFunc(slices.Clone(g.reasons), func(r artifact.Reason) bool { return r.Verdict == artifact.Starts && !alone })
	times := map[string]int{}
	for _, r := range reasons {
		for _, way := range r.Ways {
			times[way]++
		}
	}
	var shared []string // ways out of several reasons, which are told once
	for i, r := range reasons {
		if i == checkReasons {
			fmt.Fprintf(b, "  … and %d more reasons: --json has them all\n", len(reasons)-i)
			break
		}
		fmt.Fprintf(b, "  %s\n", clean(r.Text))
		for k, way := range r.Ways {
			switch {
			case times[way] == 1 && k < checkWays:
				fmt.Fprintf(b, "    → %s\n", clean(way))
			case times[way] > 1 && !slices.Contains(shared, way):
				shared = append(shared, way)
			}
		}
	}
	for _, way := range shared {
		fmt.Fprintf(b, "  → %s\n", clean(way))
	}
}

// names are the first of a list, and how many more there are.
func names(list []string) string {
	if len(list) <= checkNames {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:checkNames-1], ", "), len(list)-checkNames+1)
}
