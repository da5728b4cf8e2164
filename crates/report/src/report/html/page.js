'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const STATES = ['stable', 'significant', 'drifted', 'not judged', 'failed', 'not compared'];
  const [STABLE, SIGNIFICANT, DRIFTED, NOT_JUDGED, FAILED] = [0, 1, 2, 3, 4];

  // Data: blocks of gzip in base64, so that nothing in a name can end a script element.
  async function inflate(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return JSON.parse(await new Response(stream).text());
  }
  const blocks = new Map();
  function block(comparison) {
    if (!blocks.has(comparison)) blocks.set(comparison, inflate('block-' + comparison));
    return blocks.get(comparison);
  }

  // Text and elements. Text from data gets in as text only.
  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  function svg(name, attributes, ...children) {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }
  function number(value) {
    if (value === null || value === undefined) return '–';
    if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString('en');
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return String(Number(value.toPrecision(4)));
  }
  const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.001 ? 3 : 1) + ' %';
  const counted = (n, noun) => n.toLocaleString('en') + ' ' + noun + (n === 1 ? '' : 's');
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A canvas in the pixels of the screen.
  function sized(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
    const context = canvas.getContext('2d');
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }
  function mixed(from, to, share) {
    const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const [a, b] = [parts(from), parts(to)];
    return 'rgb(' + a.map((x, i) => Math.round(x + (b[i] - x) * share)).join(',') + ')';
  }
  // 0 without a difference, 0.5 at the threshold, 1 from five times the threshold on.
  const shade = (ratio) => (ratio <= 1 ? 0.5 * ratio : 0.5 + 0.5 * Math.min(1, Math.log(ratio) / Math.log(5)));

  inflate('summary').then(start).catch((problem) => {
    byId('script-problem').hidden = false;
    byId('script-problem').textContent = 'The interactive part cannot be shown: ' + problem.message;
  });

  function start(data) {
    const features = data.features;
    const count = features.name.length;
    const placeOf = (comparison) => {
      const { model, window, segment } = data.comparisons[comparison];
      return [model, window, segment].filter(Boolean).join(' · ');
    };
    const importanceOf = (i) => data.comparisons[features.comparison[i]].importance * features.importance[i];
    const describe = (i) => {
      const ratio = features.ratio[i];
      const far = ratio === null ? 'no figure' : number(ratio) + ' times its threshold';
      const place = placeOf(features.comparison[i]);
      return (place ? place + ', ' : '') + features.name[i] + ': ' + STATES[features.state[i]] + ', ' + far;
    };
    document.querySelectorAll('.interactive').forEach((part) => { part.hidden = false; });

    // Drift against importance.
    const points = [];
    for (let i = 0; i < count; i++) if (features.ratio[i] !== null) points.push(i);
    const importances = points.map(importanceOf).sort((a, b) => a - b);
    const middle = importances.length ? importances[importances.length >> 1] : 1;
    const [least, most] = [importances[0] ?? 1, importances[importances.length - 1] ?? 1];
    const sameImportance = least === most;
    const spots = [];
    function drawQuadrants() {
      const box = byId('quadrants');
      const [width, height] = [box.clientWidth - 2, box.clientHeight - 2];
      const canvas = box.querySelector('canvas');
      canvas.style.width = '';
      canvas.style.height = '';
      const context = sized(canvas, width, canvas.clientHeight || height);
      const high = canvas.clientHeight;
      const [left, right, top, bottom] = [52, width - 14, 14, high - 34];
      const logs = (value) => Math.log10(Math.max(value, 0.01));
      const x = (value) => sameImportance ? (left + right) / 2
        : left + (right - left) * (Math.log(Math.max(value, 1e-9)) - Math.log(Math.max(least, 1e-9))) /
          (Math.log(Math.max(most, 1e-9)) - Math.log(Math.max(least, 1e-9)));
      const largest = points.reduce((most, i) => Math.max(most, features.ratio[i]), 10);
      const y = (ratio) => bottom - (bottom - top) * (logs(ratio) + 2) / (logs(largest) + 2);
      context.strokeStyle = color('--line');
      context.fillStyle = color('--muted');
      context.font = '11px system-ui, sans-serif';
      for (const ratio of [0.01, 0.1, 1, 10, 100, 1000].filter((ratio) => ratio <= largest)) {
        context.lineWidth = ratio === 1 ? 2 : 1;
        context.beginPath();
        context.moveTo(left, y(ratio));
        context.lineTo(right, y(ratio));
        context.stroke();
        context.textAlign = 'right';
        context.fillText(ratio === 0.01 ? '≤ 0.01' : String(ratio), left - 6, y(ratio) + 4);
      }
      if (!sameImportance) {
        context.setLineDash([4, 4]);
        context.beginPath();
        context.moveTo(x(middle), top);
        context.lineTo(x(middle), bottom);
        context.stroke();
        context.setLineDash([]);
      }
      context.textAlign = 'center';
      context.fillText('importance' + (sameImportance ? ' (all ' + number(least) + ')' : ' (logarithmic)'),
        (left + right) / 2, high - 8);
      context.textAlign = 'left';
      context.fillText('times the threshold', left + 4, top - 2);
      spots.length = 0;
      const draw = (i) => {
        // Points of one importance are spread by name, so that they do not hide each other.
        let hash = 0x811c9dc5 ^ features.comparison[i];
        for (const c of features.name[i]) hash = Math.imul(hash ^ c.charCodeAt(0), 0x01000193);
        hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
        const side = (hash >>> 0) / 2 ** 32 - 0.5;
        const spread = sameImportance ? right - left - 40 : Math.min(70, (right - left) / 6);
        const at = [Math.min(right, Math.max(left, x(importanceOf(i)) + side * spread)), y(features.ratio[i])];
        const drifted = features.state[i] === DRIFTED;
        context.beginPath();
        context.arc(at[0], at[1], drifted ? 4.5 : 2.5, 0, 7);
        context.fillStyle = drifted ? color('--current') : color('--baseline');
        if (drifted) context.fill(); else { context.strokeStyle = color('--baseline'); context.lineWidth = 1; context.stroke(); }
        spots.push([at[0], at[1], i]);
      };
      points.filter((i) => features.state[i] !== DRIFTED).forEach(draw);
      points.filter((i) => features.state[i] === DRIFTED).forEach(draw);
    }
    function nearest(event) {
      const box = byId('quadrants').querySelector('canvas').getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      let [best, found] = [15 * 15, -1];
      for (const [sx, sy, i] of spots) {
        const distance = (sx - px) ** 2 + (sy - py) ** 2;
        if (distance <= best) [best, found] = [distance, i];
      }
      return found;
    }
    const quadrants = byId('quadrants').querySelector('canvas');
    quadrants.addEventListener('mousemove', (event) => {
      const i = nearest(event);
      quadrants.style.cursor = i < 0 ? 'default' : 'pointer';
      if (i >= 0) byId('quadrants-said').textContent = describe(i);
    });
    quadrants.addEventListener('click', (event) => { const i = nearest(event); if (i >= 0) open(i); });
    {
      const important = (i) => sameImportance || importanceOf(i) >= middle;
      const drifted = points.filter((i) => features.state[i] === DRIFTED);
      const act = drifted.filter(important).sort((a, b) => importanceOf(b) * features.ratio[b] - importanceOf(a) * features.ratio[a]);
      const others = drifted.length - act.length;
      const calm = points.filter((i) => features.state[i] !== DRIFTED && important(i)).length;
      const list = byId('quadrants-text');
      const first = element('li', {}, sameImportance
        ? 'Drifted (no importance is set, so all features count the same): ' + counted(act.length, 'feature') + '. '
        : 'Important and drifted, look here first: ' + counted(act.length, 'feature') + '. ');
      act.slice(0, 5).forEach((i, at) => first.append(at ? ', ' : '', element('button', {
        type: 'button', class: 'link', onclick: () => open(i),
      }, [placeOf(features.comparison[i]), features.name[i]].filter(Boolean).join(' · '))));
      if (act.length > 5) first.append(', …');
      list.append(first);
      if (!sameImportance) list.append(element('li', {}, 'Drifted, less important: ' + counted(others, 'feature') + '.'));
      list.append(element('li', {}, (sameImportance ? 'Not drifted: ' : 'Important, not drifted: ') + counted(calm, 'feature') + '.'));
    }

    // The heat map: a row a comparison, a column a feature.
    const heat = byId('heat');
    const [sheet, heatCanvas] = [heat.querySelector('.sheet'), heat.querySelector('canvas')];
    const rowsOf = data.comparisons.map(() => []);
    for (let i = 0; i < count; i++) rowsOf[features.comparison[i]].push(i);
    const names = [...new Set(features.name)];
    const LABEL = Math.min(170, Math.round(heat.clientWidth / 3));
    let [cell, cursor, map] = [18, [0, 0], { rows: [], columns: 0, at: () => -1 }];
    function arrange() {
      const order = byId('heat-order').value;
      const filter = byId('heat-filter').value.toLowerCase();
      const byName = byId('heat-columns').value === 'name';
      let rows = data.comparisons.map((_, c) => c).filter((c) => placeOf(c).toLowerCase().includes(filter));
      const worst = rowsOf.map((all) => all.filter((i) => features.state[i] === DRIFTED).length +
        Math.min(0.99, Math.max(0, ...all.map((i) => features.ratio[i] ?? 0)) / 100));
      const orders = {
        importance: (a, b) => data.comparisons[b].importance - data.comparisons[a].importance || a - b,
        drifted: (a, b) => worst[b] - worst[a] || a - b,
        name: (a, b) => placeOf(a).localeCompare(placeOf(b)),
      };
      rows = rows.sort(orders[order]);
      const ratio = (i) => (features.state[i] === DRIFTED ? 1000 : 0) + (features.ratio[i] ?? -1);
      if (byName) {
        const score = new Map(names.map((name) => [name, 0]));
        for (const c of rows) for (const i of rowsOf[c]) score.set(features.name[i], score.get(features.name[i]) + Math.max(0, ratio(i)));
        const columns = new Map([...names].sort((a, b) => score.get(b) - score.get(a)).map((name, at) => [name, at]));
        const grid = rows.map((c) => { const row = []; for (const i of rowsOf[c]) row[columns.get(features.name[i])] = i; return row; });
        map = { rows, columns: names.length, at: (r, c) => grid[r]?.[c] ?? -1 };
      } else {
        const grid = rows.map((c) => [...rowsOf[c]].sort((a, b) => ratio(b) - ratio(a)));
        map = { rows, columns: Math.max(0, ...grid.map((row) => row.length)), at: (r, c) => grid[r]?.[c] ?? -1 };
      }
      cursor = [0, 0];
      heat.scrollTo(0, 0);
      drawHeat();
      tellHeat();
    }
    function drawHeat() {
      sheet.style.width = LABEL + map.columns * cell + 'px';
      sheet.style.height = map.rows.length * cell + 'px';
      const [width, height] = [heat.clientWidth, Math.min(heat.clientHeight, Math.max(cell, map.rows.length * cell))];
      const context = sized(heatCanvas, width, height);
      const [x0, y0] = [heat.scrollLeft, heat.scrollTop];
      const [low, high, none, mark] = ['--low', '--high', '--none', '--mark'].map(color);
      const gap = cell >= 8 ? 1 : 0;
      const lastRow = Math.min(map.rows.length, Math.ceil((y0 + height) / cell));
      const lastColumn = Math.min(map.columns, Math.ceil((x0 + width - LABEL) / cell));
      for (let r = Math.floor(y0 / cell); r < lastRow; r++) {
        for (let c = Math.floor(x0 / cell); c < lastColumn; c++) {
          const i = map.at(r, c);
          if (i < 0) continue;
          const [x, y, size] = [LABEL + c * cell - x0, r * cell - y0, cell - gap];
          const [state, ratio] = [features.state[i], features.ratio[i]];
          if (ratio === null || state >= NOT_JUDGED) {
            context.strokeStyle = none;
            context.lineWidth = 1;
            context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
            if (state === FAILED) {
              context.beginPath();
              context.moveTo(x + 2, y + 2);
              context.lineTo(x + size - 2, y + size - 2);
              context.moveTo(x + size - 2, y + 2);
              context.lineTo(x + 2, y + size - 2);
              context.stroke();
            }
            continue;
          }
          context.fillStyle = mixed(low, high, shade(ratio));
          context.fillRect(x, y, size, size);
          if (state === DRIFTED && cell >= 6) {
            context.fillStyle = ratio > 1 ? mark : high;
            context.beginPath();
            context.arc(x + size / 2, y + size / 2, Math.max(1.5, cell / 7), 0, 7);
            context.fill();
          }
        }
        if (cell >= 10) {
          context.fillStyle = color('--panel');
          context.fillRect(0, r * cell - y0, LABEL - 2, cell);
          context.fillStyle = color('--text');
          context.font = Math.min(12, cell - 3) + 'px system-ui, sans-serif';
          let text = placeOf(map.rows[r]) || 'all features';
          while (text.length > 4 && context.measureText(text).width > LABEL - 12) text = text.slice(0, -2).replace(/…?$/, '…');
          context.fillText(text, 4, r * cell - y0 + cell - 5);
        }
      }
      if (cell < 10) {
        context.fillStyle = color('--panel');
        context.fillRect(0, 0, LABEL - 2, height);
      }
      if (document.activeElement === heat && map.rows.length) {
        context.strokeStyle = color('--focus');
        context.lineWidth = 3;
        context.strokeRect(LABEL + cursor[1] * cell - x0 - 1, cursor[0] * cell - y0 - 1, cell + 1, cell + 1);
      }
    }
    function tellHeat() {
      const i = map.at(cursor[0], cursor[1]);
      const text = !map.rows.length ? 'No model matches the filter.' : i < 0 ? 'No feature here.' : describe(i);
      byId('heat-said').textContent = text;
    }
    function move(down, right) {
      cursor = [Math.min(map.rows.length - 1, Math.max(0, cursor[0] + down)), Math.min(map.columns - 1, Math.max(0, cursor[1] + right))];
      const [x, y] = [cursor[1] * cell, cursor[0] * cell];
      if (y < heat.scrollTop) heat.scrollTop = y;
      if (y + cell > heat.scrollTop + heat.clientHeight) heat.scrollTop = y + cell - heat.clientHeight;
      if (x < heat.scrollLeft) heat.scrollLeft = x;
      if (x + cell > heat.scrollLeft + heat.clientWidth - LABEL) heat.scrollLeft = x + cell - heat.clientWidth + LABEL;
      drawHeat();
      tellHeat();
    }
    const zoom = (factor) => { cell = Math.min(40, Math.max(4, Math.round(cell * factor))); drawHeat(); };
    heat.addEventListener('scroll', () => requestAnimationFrame(drawHeat));
    heat.addEventListener('focus', drawHeat);
    heat.addEventListener('blur', drawHeat);
    heat.addEventListener('keydown', (event) => {
      const page = Math.max(1, Math.floor(heat.clientHeight / cell) - 1);
      const steps = {
        ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [page, 0],
        PageUp: [-page, 0], Home: [0, -1e9], End: [0, 1e9],
      };
      if (steps[event.key]) move(...steps[event.key]);
      else if (event.key === 'Enter') { const i = map.at(...cursor); if (i >= 0) open(i); }
      else if (event.key === '+') zoom(1.4);
      else if (event.key === '-') zoom(1 / 1.4);
      else return;
      event.preventDefault();
    });
    const under = (event) => {
      const box = heatCanvas.getBoundingClientRect();
      if (event.clientX - box.left < LABEL) return null;
      return [Math.floor((event.clientY - box.top + heat.scrollTop) / cell), Math.floor((event.clientX - box.left - LABEL + heat.scrollLeft) / cell)];
    };
    heatCanvas.addEventListener('mousemove', (event) => {
      const at = under(event);
      const i = at ? map.at(...at) : -1;
      heatCanvas.style.cursor = i < 0 ? 'default' : 'pointer';
      if (i >= 0) byId('heat-said').textContent = describe(i);
    });
    heatCanvas.addEventListener('click', (event) => {
      const at = under(event);
      if (at && map.at(...at) >= 0) { cursor = at; drawHeat(); open(map.at(...at)); }
    });
    byId('heat-columns').value = names.length <= 400 ? 'name' : 'drift';
    ['heat-order', 'heat-columns'].forEach((id) => byId(id).addEventListener('change', arrange));
    byId('heat-filter').addEventListener('input', arrange);
    byId('zoom-in').addEventListener('click', () => zoom(1.4));
    byId('zoom-out').addEventListener('click', () => zoom(1 / 1.4));

    // The table: only the rows in sight are elements.
    const ROW = 44;
    const rowsBox = byId('rows');
    const body = rowsBox.querySelector('tbody');
    let [shown, sortKey, descending, drawn] = [[], 'ratio', true, ''];
    const keys = {
      model: (i) => placeOf(features.comparison[i]), feature: (i) => features.name[i], state: (i) => features.state[i],
      ratio: (i) => features.ratio[i] ?? -1, psi: (i) => features.psi[i] ?? -1, js: (i) => features.js[i] ?? -1,
      ks: (i) => features.ks[i] ?? -1, missing: (i) => Math.abs(features.missing[i] ?? 0), importance: importanceOf,
    };
    function choose() {
      const words = byId('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
      const state = byId('states').value;
      shown = [];
      for (let i = 0; i < count; i++) {
        const right = state === 'all' || STATES[features.state[i]] === state ||
          (state === 'significant' && features.state[i] === DRIFTED);
        if (!right) continue;
        const text = (placeOf(features.comparison[i]) + ' ' + features.name[i]).toLowerCase();
        if (words.every((word) => text.includes(word))) shown.push(i);
      }
      const key = keys[sortKey];
      const compare = (a, b) => (typeof a === 'string' ? a.localeCompare(b) : a - b);
      const rank = (i) => (sortKey === 'ratio' && features.state[i] === DRIFTED ? 1 : 0);
      shown.sort((a, b) => (descending ? -1 : 1) * (rank(a) - rank(b) || compare(key(a), key(b))) || a - b);
      rowsBox.scrollTop = 0;
      drawn = '';
      drawRows();
      byId('shown').textContent = counted(shown.length, 'feature') + ' of ' + count.toLocaleString('en');
      rowsBox.querySelectorAll('th').forEach((head) => {
        const sorted = head.dataset.key === sortKey;
        if (sorted) head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
        else head.removeAttribute('aria-sort');
      });
    }
    function drawRows(focus) {
      const first = Math.max(0, Math.floor(rowsBox.scrollTop / ROW) - 5);
      const last = Math.min(shown.length, first + Math.ceil(rowsBox.clientHeight / ROW) + 10);
      const key = first + '-' + last;
      if (key !== drawn) {
        drawn = key;
        const space = (rows) => {
          const td = element('td', { colspan: 10 });
          td.style.height = rows * ROW + 'px';
          return element('tr', { class: 'space', 'aria-hidden': 'true' }, td);
        };
        const all = [];
        if (first > 0) all.push(space(first));
        for (let at = first; at < last; at++) all.push(row(shown[at], at));
        if (last < shown.length) all.push(space(shown.length - last));
        body.replaceChildren(...all);
        rowsBox.querySelector('table').setAttribute('aria-rowcount', shown.length + 1);
      }
      if (focus !== undefined) body.querySelector('tr[data-at="' + focus + '"] button')?.focus();
    }
    function row(i, at) {
      const comparison = features.comparison[i];
      const pair = element('td', {});
      block(comparison).then((found) => { pair.append(small(found.features[features.place[i]])); });
      const state = features.state[i];
      const figure = (value) => element('td', { class: 'number' }, number(value));
      return element('tr', { class: 'row', 'data-at': at, 'aria-rowindex': at + 2 },
        element('td', { title: placeOf(comparison) }, placeOf(comparison) || '–'),
        element('td', { title: features.name[i] }, element('button', { type: 'button', class: 'link', onclick: () => open(i) }, features.name[i] || '(no name)')),
        pair,
        element('td', { class: 'state ' + (state === DRIFTED ? 'drifted' : '') }, (state === DRIFTED ? '● ' : '') + STATES[state]),
        figure(features.ratio[i]), figure(features.psi[i]), figure(features.js[i]), figure(features.ks[i]),
        figure(features.missing[i]), figure(importanceOf(i)));
    }
    rowsBox.addEventListener('scroll', () => requestAnimationFrame(() => drawRows()));
    rowsBox.addEventListener('keydown', (event) => {
      const now = event.target.closest('tr.row');
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
      if (!now || !(event.key in steps)) return;
      event.preventDefault();
      const next = Math.min(shown.length - 1, Math.max(0, Number(now.dataset.at) + steps[event.key]));
      const head = 34;
      if (next * ROW < rowsBox.scrollTop) rowsBox.scrollTop = next * ROW;
      if ((next + 1) * ROW + head > rowsBox.scrollTop + rowsBox.clientHeight) rowsBox.scrollTop = (next + 1) * ROW + head - rowsBox.clientHeight;
      drawRows(next);
    });
    rowsBox.querySelectorAll('th button').forEach((button) => button.addEventListener('click', () => {
      const key = button.closest('th').dataset.key;
      [sortKey, descending] = key === sortKey ? [key, !descending] : [key, !['model', 'feature'].includes(key)];
      choose();
    }));
    byId('filter').addEventListener('input', choose);
    byId('states').addEventListener('change', choose);

    // Bars of both sides, in shares of the rows that have a value.
    function bars(feature) {
      const counts = feature.counts;
      if (!counts) return null;
      const total = (side) => counts[side].map((n) => n / (feature[side].values || 1));
      return { labels: labels(counts), baseline: total('baseline'), current: total('current'), counts };
    }
    const edge = (x) => (typeof x === 'string' ? x : number(x));
    function labels(counts) {
      if (counts.names) return counts.names;
      if (counts.tie_aware) {
        const last = counts.tie_aware[counts.tie_aware.length - 2];
        return counts.tie_aware.map(([values, x]) => values === 'below' ? '< ' + edge(x) : values === 'equal' ? '= ' + edge(x)
          : (last[0] === 'equal' ? '> ' : '≥ ') + edge(last[1]));
      }
      const { edges } = counts;
      if (!edges.length) return ['all'];
      return [...edges, null].map((x, i) => i === 0 ? '< ' + edge(edges[0])
        : x === null ? '≥ ' + edge(edges[i - 1]) : edge(edges[i - 1]) + ' to ' + edge(x));
    }
    function small(feature) {
      const found = bars(feature);
      if (!found) return element('span', { class: 'muted' }, '–');
      const [width, height] = [132, 36];
      const n = Math.min(found.labels.length, 24);
      const most = Math.max(...found.baseline.slice(0, n), ...found.current.slice(0, n), 1e-9);
      const step = width / n;
      const drawing = svg('svg', { width, height, viewBox: '0 0 ' + width + ' ' + height, role: 'img', 'aria-label': sentence(found) });
      let path = 'M0 ' + height;
      for (let i = 0; i < n; i++) {
        const [b, c] = [found.baseline[i] / most * (height - 1), found.current[i] / most * (height - 1)];
        drawing.append(svg('rect', { class: 'b', x: i * step, y: height - b, width: Math.max(1, step - 1), height: b }));
        path += 'V' + (height - c).toFixed(1) + 'H' + ((i + 1) * step).toFixed(1);
      }
      drawing.append(svg('path', { class: 'outline', d: path + 'V' + height }));
      return drawing;
    }
    function sentence(found) {
      let most = 0;
      found.baseline.forEach((b, i) => {
        if (Math.abs(found.current[i] - b) > Math.abs(found.current[most] - found.baseline[most])) most = i;
      });
      return 'Largest change: ' + (found.labels[most] || '(empty)') + ', from ' + percent(found.baseline[most]) + ' to ' + percent(found.current[most]);
    }
    function large(found) {
      const n = Math.min(found.labels.length, 50);
      const [step, plot, low] = [Math.max(18, Math.min(60, 760 / n)), 190, 78];
      const width = 60 + n * step + 48;
      const most = Math.max(...found.baseline, ...found.current, 1e-9);
      const drawing = svg('svg', { width, height: plot + low + 12, role: 'img', 'aria-label': sentence(found) });
      for (const share of [0, most / 2, most]) {
        const y = 10 + plot - share / most * plot;
        drawing.append(svg('line', { class: 'axis', x1: 54, x2: width - 48, y1: y, y2: y }), svg('text', { x: 50, y: y + 4, 'text-anchor': 'end' }, percent(share)));
      }
      for (let i = 0; i < n; i++) {
        const x = 58 + i * step;
        const part = (share, kind, at) => svg('rect', { class: kind, x: x + at * step * 0.4 + step * 0.1, y: 10 + plot - share / most * plot, width: step * 0.38, height: share / most * plot },
          svg('title', {}, found.labels[i] + ': ' + percent(share)));
        drawing.append(part(found.baseline[i], 'b', 0), part(found.current[i], 'c', 1));
        let text = found.labels[i] || '(empty)';
        if (text.length > 16) text = text.slice(0, 15) + '…';
        drawing.append(svg('text', { transform: 'translate(' + (x + step / 2) + ',' + (plot + 22) + ') rotate(40)' }, text));
      }
      return element('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Shares of both sides' }, drawing);
    }

    // One feature.
    const dialog = byId('detail');
    let plots = [];
    dialog.querySelector('.close').addEventListener('click', () => dialog.close());
    dialog.addEventListener('close', () => { plots.forEach((plot) => plot.destroy()); plots = []; });
    async function open(i) {
      const comparison = features.comparison[i];
      const { features: details, read } = await block(comparison);
      const feature = details[features.place[i]];
      plots.forEach((plot) => plot.destroy());
      plots = [];
      dialog.querySelector('h2').textContent = features.name[i] || '(no name)';
      dialog.querySelector('.place').textContent = [placeOf(comparison), feature.kind, STATES[features.state[i]]].filter(Boolean).join(' · ');
      dialog.querySelector('.read').textContent = read || '';
      const page = [];
      if (feature.reasons.length) page.push(element('p', {}, element('strong', {}, 'Drifted: '), feature.reasons.join('; ')));
      if (feature.detail) page.push(element('p', {}, feature.detail));
      page.push(...signals(feature), ...distributions(feature), ...history(feature), sides(feature), ...elsewhere(i));
      dialog.querySelector('.body').replaceChildren(...page);
      if (!dialog.open) dialog.showModal();
      dialog.scrollTop = 0;
      drawHistory(feature);
    }
    function table(heads, rows, caption) {
      const cells = (kind, row) => row.map((value, at) => element(kind, { class: typeof value === 'number' || at > 0 ? 'number' : 'name', scope: kind === 'th' ? 'col' : null },
        typeof value === 'number' || value === null ? number(value) : value));
      return element('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': caption },
        element('table', {}, element('thead', {}, element('tr', {}, ...cells('th', heads))),
          element('tbody', {}, ...rows.map((row) => element('tr', {}, ...cells('td', row))))));
    }
    function signals(feature) {
      if (!feature.signals.length) return [];
      const rows = feature.signals.map((signal) => [signal.metric, signal.value, signal.limit, signal.noise ?? null, signal.q_value ?? null, signal.over && signal.significant ? 'yes' : 'no']);
      return [element('h3', {}, 'Figures and thresholds'),
        table(['figure', 'value', 'threshold', 'noise (99 %)', 'q-value', 'drifted'], rows, 'Figures and thresholds')];
    }
    function distributions(feature) {
      const found = bars(feature);
      if (!found) return [];
      const { counts } = found;
      const bins = !counts.names;
      const heading = !bins ? 'Distribution: categories with the largest changes'
        : counts.tie_aware ? 'Distribution: bins of the baseline; a value that fills a bin has its own' : 'Distribution: bins of equal share in the baseline';
      const rows = found.labels.map((label, at) => [label || '(empty)', counts.baseline[at], counts.current[at], percent(found.baseline[at]), percent(found.current[at]),
        counts.psi[at], ...(counts.js ? [counts.js[at]] : [])]);
      const heads = [bins ? 'bin' : 'category', 'baseline', 'current', 'share', 'share now', 'adds to PSI', ...(counts.js ? ['adds to JS'] : [])];
      return [element('h3', {}, heading),
        element('p', { class: 'legend' }, element('span', {}, element('span', { class: 'swatch baseline' }), 'baseline'), element('span', {}, element('span', { class: 'swatch current' }), 'current')),
        large(found), element('p', {}, sentence(found) + '.'),
        element('details', {}, element('summary', {}, 'The numbers, and what each ' + (bins ? 'bin' : 'category') + ' adds to PSI' + (counts.js ? ' and JS divergence' : '')),
          table(heads, rows, 'Counts'))];
    }
    function history(feature) {
      if (!feature.history || !feature.history.length) return [];
      return [element('h3', {}, 'History'), element('div', { id: 'history' })];
    }
    function drawHistory(feature) {
      const box = byId('history');
      if (!box) return;
      for (const line of feature.history) {
        const width = Math.max(280, box.clientWidth || 600);
        const nights = data.nights;
        const constant = (value) => nights.map(() => value);
        const all = [nights, line.values];
        const series = [{ label: 'sweep', value: (_, time) => (time === null ? '–' : utc(time)) }, { label: line.metric, stroke: color('--current'), width: 2, spanGaps: false, points: { show: nights.length < 40 } }];
        const signal = feature.signals.find((signal) => signal.metric === line.metric);
        if (signal) { all.push(constant(signal.limit)); series.push({ label: 'threshold', stroke: color('--text'), width: 1, points: { show: false } }); }
        if (signal && signal.noise) { all.push(constant(signal.noise)); series.push({ label: 'noise (99 %)', stroke: color('--muted'), dash: [4, 4], width: 1, points: { show: false } }); }
        const axis = { stroke: color('--muted'), grid: { stroke: color('--line'), width: 1 }, ticks: { stroke: color('--line') } };
        const band = (plot) => {
          if (!signal) return;
          const y = Math.max(plot.bbox.top, Math.min(plot.bbox.top + plot.bbox.height, plot.valToPos(signal.limit, 'y', true)));
          plot.ctx.fillStyle = color('--low');
          plot.ctx.fillRect(plot.bbox.left, plot.bbox.top, plot.bbox.width, y - plot.bbox.top);
        };
        plots.push(new uPlot({
          width, height: 190, series, tzDate: (time) => uPlot.tzDate(new Date(1000 * time), 'Etc/UTC'), axes: [{ ...axis, values: (_, times) => times.map((time) => utc(time).slice(5, 10)) }, { ...axis, size: 64 }], scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low), 1.08 * Math.max(high, signal ? signal.limit * 1.2 : 0) || 1] } },
          hooks: { drawClear: [band] }, legend: { live: true },
        }, all, box));
        const known = line.values.map((value, at) => [value, at]).filter(([value]) => value !== null);
        const over = signal ? known.filter(([value]) => Math.abs(value) > signal.limit).length : 0;
        box.append(element('p', {}, line.metric + ' over ' + counted(known.length, 'sweep') + (signal ? ': above its threshold at ' + over : '') + '.'));
      }
    }
    const utc = (time) => new Date(1000 * time).toISOString().slice(0, 16) + 'Z';
    function sides(feature) {
      const [b, c] = [feature.baseline, feature.current];
      const rows = [];
      const add = (name, before, now) => { if (before !== undefined || now !== undefined) rows.push([name, before ?? null, now ?? null]); };
      const share = (side, key) => side[key] === undefined ? undefined : number(side[key]) + ' (' + percent(side[key] / (side.rows || 1)) + ')';
      add('type', b.type, c.type);
      add('rows', b.rows, c.rows);
      for (const [key, name] of [['null', 'null'], ['nan', 'NaN'], ['neg_inf', 'minus infinity'], ['pos_inf', 'plus infinity']]) {
        if (b[key] || c[key]) add(name, share(b, key), share(c, key));
      }
      for (const key of ['min', 'max', 'mean', 'std']) add(key, b[key], c[key]);
      add('below the smallest value of the baseline', undefined, share(c, 'below_range'));
      add('above the largest value of the baseline', undefined, share(c, 'above_range'));
      add('categories', b.categories, c.categories);
      add('new categories', undefined, c.unseen_categories);
      add('rows of new categories', undefined, share(c, 'unseen_rows'));
      return element('div', {}, element('h3', {}, 'Both sides'), table(['measure', 'baseline', 'current'], rows, 'Both sides'));
    }
    function elsewhere(i) {
      const model = data.comparisons[features.comparison[i]].model;
      const others = [];
      for (let j = 0; j < count && others.length < 40; j++) {
        if (j !== i && features.name[j] === features.name[i] && data.comparisons[features.comparison[j]].model === model) others.push(j);
      }
      if (!others.length) return [];
      others.sort((a, b) => (features.ratio[b] ?? -1) - (features.ratio[a] ?? -1));
      return [element('h3', {}, 'The same feature in other segments and windows'), element('ul', { class: 'plain' },
        ...others.map((j) => element('li', {}, element('button', { type: 'button', class: 'link', onclick: () => open(j) }, placeOf(features.comparison[j])),
          ': ' + STATES[features.state[j]] + ', ' + number(features.ratio[j]) + ' times its threshold')))];
    }

    const redraw = () => { drawQuadrants(); drawHeat(); drawn = ''; drawRows(); };
    let later = 0;
    window.addEventListener('resize', () => { clearTimeout(later); later = setTimeout(redraw, 100); });
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
    choose();
    requestAnimationFrame(() => { drawQuadrants(); arrange(); });
    document.documentElement.dataset.ready = 'yes';
  }
})();
