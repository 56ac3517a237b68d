package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
)

// checkFormats are what check can print, by name.
var checkFormats = []struct {
	name  string
	print func(g *globals, c *envs.Checked, strict bool) error
}{
	{"text", func(g *globals, c *envs.Checked, strict bool) error { return printChecked(g.stdout, c, strict) }},
	{"json", func(g *globals, c *envs.Checked, _ bool) error { return g.printJSON(c) }},
	{"github", func(g *globals, c *envs.Checked, strict bool) error { return githubChecked(g.stdout, c, strict) }},
	{"junit", func(g *globals, c *envs.Checked, strict bool) error { return junitChecked(g.stdout, c, strict) }},
}

// because are the reasons of an answer that lead to its verdict, with what to do, a line
// each.
func because(a artifact.Answer) []string {
	var lines []string
	for _, r := range a.Reasons {
		if r.Verdict == artifact.Starts {
			continue
		}
		lines = append(lines, clean(r.Text))
		for _, way := range r.Ways {
			lines = append(lines, "→ "+clean(way))
		}
	}
	return lines
}

// What workflow commands of GitHub's runners can't have in their data, and besides in
// their properties.
var (
	githubData       = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	githubProperties = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// githubChecked prints an annotation for each file that doesn't start, and a line for
// people.
func githubChecked(out io.Writer, c *envs.Checked, strict bool) error {
	var b strings.Builder
	for _, a := range c.Answers {
		command := "error"
		switch {
		case a.Verdict == artifact.Starts:
			continue
		case a.Verdict == artifact.Unproven && !strict:
			command = "warning"
		}
		title := clean(a.File) + " " + sentence(a)
		fmt.Fprintf(&b, "::%s file=%s,title=%s::%s\n", command, githubProperties.Replace(clean(a.File)), githubProperties.Replace(title),
			githubData.Replace(strings.Join(because(a), "\n")))
	}
	fmt.Fprintln(&b, summary(c))
	_, err := io.WriteString(out, b.String())
	return err
}

// The elements of JUnit's XML that CI systems read.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// junitChecked prints a suite for each target and a case for each file. What is unproven
// counts as skipped.
func junitChecked(out io.Writer, c *envs.Checked, strict bool) error {
	all := junitSuites{Name: "stead check"}
	for _, t := range c.Targets {
		s := junitSuite{Name: t.Name}
		for _, a := range c.Answers {
			if a.Target != t.Name {
				continue
			}
			k := junitCase{Class: t.Name, Name: clean(a.File)}
			lines := because(a)
			said := &junitMessage{Text: strings.Join(lines, "\n")}
			if len(lines) > 0 {
				said.Message = lines[0]
			}
			switch {
			case a.Verdict == artifact.Fails, a.Verdict == artifact.Unproven && strict:
				said.Type = string(a.Verdict)
				k.Failure = said
				s.Failures++
			case a.Verdict == artifact.Unproven:
				k.Skipped = said
				s.Skipped++
			}
			s.Tests++
			s.Cases = append(s.Cases, k)
		}
		all.Tests, all.Failures, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Skipped+s.Skipped
		all.Suites = append(all.Suites, s)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s%s\n", xml.Header, text)
	return err
}
