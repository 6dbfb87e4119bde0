package train

import (
	"fmt"
	"unicode/utf8"
)

// Use is what the maker of a model says about it, for its card.
type Use struct {
	Intended string `json:"intended,omitempty" doc:"What the model is for"`
	Limits   string `json:"limits,omitempty" doc:"What it is not for, and what is known to go wrong"`
	Contact  string `json:"contact,omitempty" doc:"Whom to ask"`
}

// maxUse bounds each text, in bytes.
const maxUse = 4096

func (u Use) check() error {
	for name, text := range map[string]string{"intended use": u.Intended, "limits": u.Limits, "contact": u.Contact} {
		if len(text) > maxUse || !utf8.ValidString(text) {
			return fmt.Errorf("%w: %s of %d bytes, want UTF-8 of at most %d", ErrOptions, name, len(text), maxUse)
		}
	}
	return nil
}
