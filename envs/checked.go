package envs

import (
	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/lock"
)

// CheckedVersion is the version of what check answers as JSON: testdata/check.schema.json
// describes it.
const CheckedVersion = 1

// Checked is what a check came to.
type Checked struct {
	Version int              `json:"version"`
	Verdict artifact.Verdict `json:"verdict"` // fails where anything does, else unproven where anything is
	// Starts, Fails and Unproven count the answers.
	Starts   int               `json:"starts"`
	Fails    int               `json:"fails"`
	Unproven int               `json:"unproven"`
	Targets  []CheckedTarget   `json:"targets"`
	Answers  []artifact.Answer `json:"answers"` // by target, and by file within one
}

// CheckedTarget is a system that was judged for. What isn't known of it is absent.
type CheckedTarget struct {
	Name         string        `json:"name"`              // as answers have it
	Release      int           `json:"release,omitempty"` // 0 for a host that is no release
	Lock         digest.Digest `json:"lock,omitempty"`    // its identity
	System       string        `json:"system,omitempty"`  // "debian 11"
	Architecture string        `json:"architecture,omitempty"`
	Libc         string        `json:"libc,omitempty"`
	Kernel       string        `json:"kernel,omitempty"`
	CPU          string        `json:"cpu,omitempty"`
}

func (t CheckedTarget) with(h lock.Host) CheckedTarget {
	t.System, t.Architecture, t.Libc, t.Kernel, t.CPU = h.ID, h.Architecture, h.Libc, h.Kernel, h.CPU
	if h.Version != "" {
		t.System += " " + h.Version
	}
	return t
}

// Add takes in what one target answered.
func (c *Checked) Add(t CheckedTarget, answers []artifact.Answer) {
	c.Targets = append(c.Targets, t)
	c.Answers = append(c.Answers, answers...)
	for _, a := range answers {
		switch a.Verdict {
		case artifact.Starts:
			c.Starts++
		case artifact.Fails:
			c.Fails++
		default:
			c.Unproven++
		}
	}
	switch {
	case c.Fails > 0:
		c.Verdict = artifact.Fails
	case c.Unproven > 0:
		c.Verdict = artifact.Unproven
	default:
		c.Verdict = artifact.Starts
	}
}
