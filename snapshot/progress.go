package snapshot

// Event says how far a stage of the work has come.
type Event struct {
	Stage string `json:"stage"`          // what is being done: "listing", "fetching", "unpacking"
	Item  string `json:"item,omitempty"` // what is at hand: a package, a path
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"` // 0 where it isn't known
	Unit  string `json:"unit,omitempty"`  // "bytes", "packages", "files"
	// Note is set for something a person should read even when it scrolls by: a
	// retry, a package that had to be repacked. Done and Total mean nothing then.
	Note string `json:"note,omitempty"`
}

// Progress receives events; it may be called from several goroutines at once. A
// nil Progress is silent.
type Progress func(Event)

// Report sends e to p unless p is nil.
func (p Progress) Report(e Event) {
	if p != nil {
		p(e)
	}
}

// Note sends a sentence for people to p unless p is nil.
func (p Progress) Note(stage, note string) {
	p.Report(Event{Stage: stage, Note: note})
}
