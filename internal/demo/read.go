package demo

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// array is a page of a collection.
type array struct {
	Sys struct {
		Type string `json:"type"`
	} `json:"sys"`
	Total int   `json:"total"`
	Skip  int   `json:"skip"`
	Limit int   `json:"limit"`
	Items []any `json:"items"`
}

// read returns what a GET asks for: one document or an array of them.
func (a *ContentAPI) read(at address, query url.Values) (any, *problem) {
	at = a.resolved(at)
	switch at.form {
	case collection:
		return a.list(at, query)
	case single:
		if e, ok := a.one(at.key); ok {
			return at.shown(e).document(), nil
		}
		return nil, notFound(at.key)
	default:
		return nil, noRoute()
	}
}

func (a *ContentAPI) list(of address, query url.Values) (any, *problem) {
	skip, okSkip := number(query, "skip", 0)
	limit, okLimit := number(query, "limit", defaultLimit)
	if !okSkip || !okLimit || limit > maxLimit {
		return nil, badRequest("The query you sent was invalid: skip and limit are numbers, limit is at most 1000.")
	}
	found := a.collected(of.key)
	if query.Has("sys.id[in]") {
		wanted := strings.Split(query.Get("sys.id[in]"), ",")
		found = slices.DeleteFunc(found, func(e entity) bool { return !slices.Contains(wanted, e.id) })
	}
	page := array{Total: len(found), Skip: skip, Limit: limit, Items: []any{}}
	page.Sys.Type = "Array"
	from := min(skip, len(found))
	for _, e := range found[from:min(from+limit, len(found))] {
		page.Items = append(page.Items, of.shown(e).document())
	}
	return page, nil
}

// number reads a query parameter that must not be negative.
func number(query url.Values, name string, otherwise int) (int, bool) {
	if !query.Has(name) {
		return otherwise, true
	}
	n, err := strconv.Atoi(query.Get(name))
	return n, err == nil && n >= 0
}

// collected returns the entities of one kind in one environment, oldest first.
func (a *ContentAPI) collected(of key) []entity {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []entity
	for k, e := range a.entities {
		if k.id = ""; k == of {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(x, y entity) int { return cmp.Compare(x.order, y.order) })
	return found
}

// resolved is an address with the environment that an alias stands for.
func (a *ContentAPI) resolved(at address) address {
	a.mu.Lock()
	defer a.mu.Unlock()
	at.environment = a.target(at.space, at.called)
	return at
}

func (a *ContentAPI) one(k key) (entity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.entities[k]
	return e, ok
}
