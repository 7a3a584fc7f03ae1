/* What keeps somebody from reading or using this page on a small phone, as a list of sentences: size of text and of
   targets, contrast (WCAG 2, AA), names for screen readers, order of focus, width, what is cut or lies over another. */
() => {
  const problems = [];
  const name = (element) => element.tagName.toLowerCase() + (element.id ? '#' + element.id : '')
    + (element.className && element.className.baseVal === undefined ? '.' + element.className.trim().replace(/ +/g, '.') : '')
    + ' "' + (element.textContent || '').trim().slice(0, 30) + '"';

  const seen = (element) => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility({ checkVisibilityCSS: true }) && box.width > 0 && box.height > 0;
  };
  const meant_for_readers_only = (element) => element.closest('.unseen');

  // The document.
  if (!document.documentElement.lang) problems.push('the page does not say its language');
  if (!document.title.trim()) problems.push('the page has no title');
  if (document.querySelectorAll('h1').length !== 1) problems.push('there is not exactly one main heading');
  if (!document.querySelector('[aria-live]')) problems.push('nothing is announced');
  if (document.querySelector('main') === null) problems.push('there is no main part');
  const viewport = document.querySelector('meta[name=viewport]');
  if (!viewport || /user-scalable=no|maximum-scale/.test(viewport.content)) problems.push('the page cannot be enlarged');
  if (document.documentElement.scrollWidth > window.innerWidth) {
    problems.push('the page is wider than the screen: ' + document.documentElement.scrollWidth);
  }

  // What is operated.
  const operated = [...document.querySelectorAll('a[href], button, input, textarea, summary, select')]
    .filter((element) => element.type !== 'hidden' && !element.disabled && seen(element));
  let lowest = -Infinity;
  for (const element of operated) {
    const labels = [...(element.labels || [])];
    const text = element.getAttribute('aria-label') || labels.map((label) => label.textContent).join(' ')
      || (element.matches('input, textarea') ? '' : element.textContent);
    if (!text.trim()) problems.push('no name: ' + name(element));
    if (element.tabIndex > 0) problems.push('a tabindex of its own: ' + name(element));
    const target = meant_for_readers_only(element) || element.type === 'radio' ? labels[0] : element;
    const box = target.getBoundingClientRect();
    if (box.width < 44 || box.height < 44) {
      problems.push(`a target of ${box.width.toFixed(0)} x ${box.height.toFixed(0)}: ` + name(target));
    }
    if (box.left < -0.5 || box.right > window.innerWidth + 0.5) problems.push('not all on the screen: ' + name(target));
    // Focus goes down the page: nothing comes after something that is wholly below it.
    if (box.bottom <= lowest) problems.push('focused too late: ' + name(target));
    lowest = Math.max(lowest, box.top);
  }
  const targets = operated.filter((element) => element.type !== 'radio').map((element) => [element, element.getBoundingClientRect()]);
  const apart = (a, b, slack) => Math.min(a.right, b.right) - Math.max(a.left, b.left) < slack.x
    || Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) < slack.y;
  targets.forEach(([one, box], at) => targets.slice(at + 1).forEach(([other, its]) => {
    if (!apart(box, its, { x: 1, y: 1 })) problems.push('one over the other: ' + name(one) + ' and ' + name(other));
  }));
  for (const image of document.querySelectorAll('svg:not([aria-hidden]), img')) {
    if (!image.closest('[aria-label]') && !image.getAttribute('alt')) problems.push('a picture without a name');
  }

  // What is read.
  const channels = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, below) => ({
    r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a),
    b: top.b * top.a + below.b * (1 - top.a), a: 1,
  });
  const luminance = ({ r, g, b }) => {
    const part = (value) => value <= 10.31475 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(channels(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), lines = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !seen(element) || meant_for_readers_only(element)) continue;
    if (element.closest('noscript, script')) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const range = document.createRange();
    range.selectNodeContents(texts.currentNode);
    if (!element.closest('textarea, select')) {
      for (const line of range.getClientRects()) lines.push([texts.currentNode, element, line]);
    }
    for (let at = element; at && !at.matches('textarea, html'); at = at.parentElement) {
      const cuts = getComputedStyle(at).overflowX !== 'visible' || getComputedStyle(at).overflowY !== 'visible';
      const inside = at.getBoundingClientRect(), all = range.getBoundingClientRect();
      const sticks = all.right > inside.right + 1 || all.left < inside.left - 1 || all.bottom > inside.bottom + 1;
      if (cuts && sticks) problems.push('text is cut: ' + name(element));
      if (at.matches('.button, .chip, .notice') && sticks) problems.push('text sticks out: ' + name(element));
    }
    if (size < 16) problems.push(`text of ${size} px: ` + name(element));
    const box = element.getBoundingClientRect();
    if (box.right > window.innerWidth + 0.5 || box.left < -0.5) problems.push('text runs out of the screen: ' + name(element));
    const ground = behind(element);
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    const ink = channels(style.color);
    const shown = over({ ...ink, a: ink.a * opacity }, ground);
    const [light, dark] = [luminance(shown), luminance(ground)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const idle = element.closest('label') && document.getElementById(element.closest('label').htmlFor)?.disabled;
    if (!idle && contrast < (large ? 3 : 4.5)) problems.push(`contrast ${contrast.toFixed(2)}: ` + name(element));
  }
  lines.forEach(([node, element, line], at) => lines.slice(at + 1).forEach(([other, its, rect]) => {
    const least = 0.4 * Math.min(line.height, rect.height);
    if (node !== other && !apart(line, rect, { x: 2, y: least })) {
      problems.push('text over text: ' + name(element) + ' and ' + name(its));
    }
  }));
  for (const field of document.querySelectorAll('#steps, select')) {
    if (seen(field) && field.scrollWidth > field.clientWidth + 1) problems.push('a value is cut: ' + name(field));
  }
  return problems;
}
