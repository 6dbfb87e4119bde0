package api

// PageOf selects one page of a listing. Pages are by key, not by offset: they
// neither skip nor repeat an item when others come and go between two pages.
type PageOf struct {
	After string `query:"after" doc:"Last key of the page before; empty for the first page" maxLength:"256"`
	Limit int    `query:"limit" doc:"Largest number of items" minimum:"1" maximum:"1000" default:"100"`
}

// A Page is one page of a listing, ordered by key.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false" doc:"At most limit items, ordered by key"`
	Next  string `json:"next,omitempty" doc:"Give this as after to get the next page; absent on the last one"`
}

// paged cuts items, which holds up to limit+1 of them, into a page.
func paged[T any](items []T, limit int, key func(T) string) Page[T] {
	p := Page[T]{Items: items}
	if len(items) > limit {
		p.Items = items[:limit]
		p.Next = key(p.Items[limit-1])
	}
	if p.Items == nil {
		p.Items = []T{}
	}
	return p
}
