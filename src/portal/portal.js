/* Makes the portal live. The page works without it; it stores nothing, and the server alone decides which
   state is shown. Written for the old engines of captive mini-browsers. */
(function () {
  'use strict';

  var words = JSON.parse(document.body.getAttribute('data-words'));
  var UNITS = [[words.day_one, words.days], [words.hour_one, words.hours], [words.minute_one, words.minutes],
    [words.second_one, words.seconds]];
  var DATA_UNITS = [words.kilobytes, words.megabytes, words.gigabytes];
  var BEAT = 1000, REQUEST_TIMEOUT = 5000, SENDING_TIMEOUT = 20000, SHORTEST_PAUSE = 3000;
  // Seconds before a session's end at which the guest is warned; milliseconds that this may be late.
  var WARNINGS = [300, 60], WARNING_DELAY = 1500;
  // Looks without an answer after which the router is said to be away.
  var MISSES = 2;

  var clocks = [];          // [{at: element, ends: reading of now()}]
  var asking = null;        // the look that is under way
  var lastLook = now();
  var wanted = false;       // a look is due now, also on a page that is not seen
  var misses = 0;           // looks in a row that had no answer
  var leaving = false;      // a form is being sent:
  var sending = null;
  var socket = null, socketFor = '', live = false, retryAt = 0, retryIn = BEAT;

  document.documentElement.className += ' js';

  function now() { return window.performance.now(); }
  function main() { return document.getElementById('main'); }
  function data(name) { return main().getAttribute('data-' + name) || ''; }
  function each(list, act) { for (var i = 0; i < list.length; i++) act(list[i], i); }
  function two(n) { return n < 10 ? '0' + n : '' + n; }
  function setText(element, text) { if (element && element.textContent !== text) element.textContent = text; }
  function say(text) { setText(document.getElementById('say'), text); }

  // Amounts and durations, as the server writes them.

  function number(n) {
    var digits = '' + n, grouped = '';
    for (var i = 0; i < digits.length; i++) {
      if (i > 0 && (digits.length - i) % 3 === 0) grouped += words.group;
      grouped += digits.charAt(i);
    }
    return grouped;
  }

  function sats(n) { return words.sats.replace('{n}', number(n)); }

  function duration(ms) {
    var s = Math.floor(ms / 1000);
    var counts = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60, s % 60];
    var parts = [];
    each(counts, function (count, i) {
      if (count > 0) parts.push(UNITS[i][count === 1 ? 0 : 1].replace('{n}', number(count)));
    });
    if (parts.length === 0) return words.seconds.replace('{n}', '0');
    var last = parts.pop();
    return parts.length ? parts.join(' ') + words.last_join + last : last;
  }

  function bytes(n) {
    var unit = n < 1e6 ? 0 : n < 1e9 ? 1 : 2, size = Math.pow(1000, unit + 1), digits = Math.pow(10, unit);
    var rest = (digits + Math.floor(n % size * digits / size) + '').substr(1).replace(/0+$/, '');
    return DATA_UNITS[unit].replace('{n}', number(Math.floor(n / size)) + (rest && '.' + rest));
  }

  function isData() { return offer().getAttribute('data-metric') === 'bytes'; }
  function quantity(n) { return isData() ? bytes(n) : duration(n); }

  function unitPrice(price, step) {
    var shown = !isData() ? 1000 : step < 1e6 ? 1e6 : 1, a = step, b = shown, rest;
    while (b > 0) { rest = a % b; a = b; b = rest; }
    var steps = shown / Math.max(a, 1);
    return words.unit_price.replace('{amount}', sats(price * steps)).replace('{duration}', quantity(step * steps));
  }

  function countdown(seconds) {
    var days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24;
    var rest = two(Math.floor(seconds / 60) % 60) + ':' + two(seconds % 60);
    if (days > 0) return words.clock_days.replace('{n}', number(days)) + ' ' + hours + ':' + rest;
    return hours > 0 ? hours + ':' + rest : rest.replace(/^0/, '');
  }

  // Countdowns run on the monotonic clock and are set right by every look at the server.

  function startClocks() {
    clocks = [];
    each(main().querySelectorAll('[data-seconds]'), function (element) {
      clocks.push({ at: element, ends: now() + 1000 * Number(element.getAttribute('data-seconds')), left: Infinity });
    });
    paintClocks();
    sayEnd();
  }

  /* Whether one has run out. They stand still while the router is away: it may count otherwise. */
  function paintClocks() {
    var over = false;
    if (isAway()) return over;
    each(clocks, function (clock) {
      var left = clock.ends - now(), seconds = Math.max(0, Math.ceil(left / 1000));
      setText(clock.at, countdown(seconds));
      if (clock.at.className.indexOf('long') >= 0 && seconds < 86400) {
        clock.at.className = clock.at.className.replace('long', '');
      }
      if (seconds === 0) over = true;
      if (data('state') === 'online') {
        each(WARNINGS, function (warning) {
          var due = 1000 * warning - WARNING_DELAY;
          if (clock.left > due && left <= due) wanted = true;
        });
      }
      clock.left = left;
    });
    return over;
  }

  function sayEnd() {
    var line = main().querySelector('[data-ends]');
    if (!line || !clocks.length) return;
    var today = new Date();
    var end = new Date(today.getTime() + clocks[0].ends - now());
    var tomorrow = new Date(today.getFullYear(), today.getMonth(), today.getDate() + 1);
    var text = end.toDateString() === today.toDateString() ? words.ends_at
      : end.toDateString() === tomorrow.toDateString() ? words.ends_tomorrow : words.ends_on;
    setText(line, text.replace('{time}', two(end.getHours()) + ':' + two(end.getMinutes()))
      .replace('{date}', end.getDate() + '/' + (end.getMonth() + 1)));
  }

  // Looking at the server: the same page again, of which the inside is taken over when it changed.

  function look() {
    if (asking || leaving) return;
    wanted = false;
    lastLook = now();
    asking = ask(location.pathname + location.search, 'document', function (page) {
      asking = null;
      var fresh = page && page.getElementById && page.getElementById('main');
      // A form's answer has no address: an offer found there is no news.
      var isNews = location.pathname === '/' || isOffer(main());
      if (fresh && !leaving && (isNews || !isOffer(fresh))) takeOver(page, fresh);
    });
  }

  function isOffer(at) { return /choose|ended/.test(at.className); }

  /* Tells `then` what was answered, null if nothing was. */
  function ask(address, type, then) {
    var request = new XMLHttpRequest();
    request.open('GET', address);
    request.setRequestHeader('Accept', 'text/html');
    request.responseType = type;
    request.timeout = REQUEST_TIMEOUT;
    request.onloadend = function () {
      hear(request.status !== 0);
      then(request.response);
    };
    request.send();
    return request;
  }

  function isAway() { return misses >= MISSES; }

  function hear(isThere) {
    misses = isThere ? 0 : misses + 1;
    var line = document.getElementById('away');
    if (line.hidden !== isAway()) return;
    line.hidden = !isAway();
    say(isAway() ? line.textContent : data('say'));
  }

  /* Which script a page has, in which language. */
  function edition(page) {
    return page.documentElement.lang + page.querySelector('script[src]').getAttribute('src');
  }

  function takeOver(page, fresh) {
    var old = main();
    // The router has been updated, or the guest has chosen another language meanwhile.
    if (edition(page) !== edition(document)) {
      location.replace(location.href);
      return;
    }
    var same = ['state', 'step', 'request'].every(function (name) {
      return old.getAttribute('data-' + name) === fresh.getAttribute('data-' + name);
    });
    if (same) {
      var told = fresh.querySelectorAll('[data-live]');
      each(old.querySelectorAll('[data-live]'), function (line, i) { setText(line, told[i] && told[i].textContent); });
      if (data('say') !== fresh.getAttribute('data-say')) {
        old.setAttribute('data-say', fresh.getAttribute('data-say'));
        document.title = page.title;
        say(data('say'));
      }
      var news = fresh.querySelectorAll('[data-seconds]');
      if (news.length === clocks.length) {
        each(clocks, function (clock, i) {
          clock.ends = now() + 1000 * Number(news[i].getAttribute('data-seconds'));
        });
        sayEnd();
      }
      return;
    }
    var focused = document.activeElement;
    var inside = focused && old.contains(focused);
    fresh = document.importNode(fresh, true);
    old.parentNode.replaceChild(fresh, old);
    if (inside) ((focused.id && document.getElementById(focused.id)) || fresh).focus();
    if (fresh.getAttribute('data-state') !== old.getAttribute('data-state')) window.scrollTo(0, 0);
    document.title = page.title;
    say(data('say'));
    each(document.querySelectorAll('header .lang'), function (link) {
      var other = page.querySelector('header .lang');
      if (other) link.setAttribute('href', other.getAttribute('href'));
    });
    begin();
  }

  // The socket only says when to look.

  function wantsSocket() {
    return data('request') && data('poll') && window.WebSocket;
  }

  function connect() {
    var id = data('request'), mine;
    retryAt = now() + retryIn;
    retryIn = Math.min(2 * retryIn, 30000);
    try {
      mine = new WebSocket((location.protocol === 'https:' ? 'wss://' : 'ws://') + location.host + '/mint-proxy');
    } catch (e) {
      return;
    }
    socket = mine;
    socketFor = id;
    mine.onopen = function () {
      retryIn = BEAT;
      mine.send(JSON.stringify({ type: 'resume', request_id: id }));
    };
    mine.onmessage = function (event) {
      var message;
      try { message = JSON.parse(event.data); } catch (e) { return; }
      if (mine !== socket || !message) return;
      if (message.type === 'ping') mine.send('{"type":"pong"}');
      if (message.request_id && message.request_id !== id) return;
      live = message.type !== 'error';
      // The first answer repeats the invoice that is shown already.
      if (!/^(invoice_ready|ping|pong)$/.test(message.type)) look();
    };
    mine.onclose = mine.onerror = function () {
      if (mine === socket) disconnect();
    };
  }

  function disconnect() {
    var old = socket;
    socket = null;
    live = false;
    if (old) old.close();
  }

  // The form.

  function offer() { return document.getElementById('offer'); }

  function terms() {
    var mint = offer().querySelector('input[name=mint]:checked') || offer().querySelector('input[name=mint]');
    return { price: Number(mint.getAttribute('data-price')), least: Number(mint.getAttribute('data-min')) };
  }

  function most() { return Number(offer().getAttribute('data-max')); }

  function within(n) { return Math.min(most(), Math.max(terms().least, Math.round(n) || 0)); }

  function paintOffer() {
    var form = offer();
    if (!form) return;
    var step = Number(form.getAttribute('data-step')), price = terms().price, least = terms().least;
    each(form.querySelectorAll('[data-steps]'), function (element) {
      setText(element, sats(price * Number(element.getAttribute('data-steps'))));
    });
    each(form.querySelectorAll('.pick'), function (pick) {
      pick.disabled = pick.value !== '' && Number(pick.value) < least;
      if (pick.disabled && pick.checked) form.querySelector('.other').checked = true;
    });
    var field = form.querySelector('#steps'), sum = form.querySelector('.tother');
    field.min = least;
    var steps = within(Number(field.value));
    setText(sum.querySelector('.time'), quantity(step * steps));
    setText(sum.querySelector('strong'), sats(price * steps));
    setText(form.querySelector('.rate'), unitPrice(price, step));
    each(form.querySelectorAll('.sum strong'), function (strong) {
      strong.className = strong.textContent.length > 11 ? 'wordy' : '';
    });
  }

  /* To the next round number. */
  function turn(direction) {
    var field = offer().querySelector('#steps'), steps = within(Number(field.value));
    var at = direction < 0 ? steps - 1 : steps;
    var jump = isData() ? (at < 10 ? 1 : at < 100 ? 10 : at < 1000 ? 100 : 1000)
      : at < 10 ? 1 : at < 60 ? 5 : at < 240 ? 15 : 60;
    var next = direction < 0 ? Math.ceil(steps / jump) * jump - jump : Math.floor(steps / jump) * jump + jump;
    field.value = within(next);
    paintOffer();
  }

  document.addEventListener('input', function (event) {
    if (event.target.id === 'steps') paintOffer();
  });

  document.addEventListener('change', function (event) {
    var form = offer(), target = event.target;
    if (!form || !form.contains(target)) return;
    if (target.name === 'steps' && target.type === 'radio' && target.value) form.querySelector('#steps').value = target.value;
    if (target.id === 'steps') target.value = within(Number(target.value));
    paintOffer();
  });

  /* What is in a form would be lost to a router that is away: it is sent once the router has answered. */
  document.addEventListener('submit', function (event) {
    event.preventDefault();
    if (leaving) return;
    sending = event.target;
    var field = sending.querySelector('#steps'), button = sending.querySelector('[type=submit]');
    if (field) field.value = within(Number(field.value));
    leaving = true;
    button.disabled = true;
    button.setAttribute('data-text', button.lastElementChild.textContent);
    setText(button.lastElementChild, words.working);
    knock();
  });

  function knock() {
    ask('/health', 'text', function () {
      if (misses === 0) {
        setTimeout(stay, SENDING_TIMEOUT);
        sending.submit();
      } else if (isAway()) {
        stay();
      } else {
        setTimeout(knock, BEAT);
      }
    });
  }

  function stay() {
    var button = leaving && sending && sending.querySelector('[type=submit]');
    leaving = false;
    if (!button) return;
    button.disabled = false;
    setText(button.lastElementChild, button.getAttribute('data-text'));
  }

  // Copying. Plain HTTP has no navigator.clipboard, so the field is selected and the document asked to copy.

  function copy(button) {
    var field = document.getElementById(button.getAttribute('data-copies')), done = false;
    var label = button.getAttribute('data-text') || button.textContent;
    button.setAttribute('data-text', label);
    field.focus();
    field.setSelectionRange(0, field.value.length);
    try { done = document.execCommand('copy'); } catch (e) { done = false; }
    if (done) button.focus();
    setText(button, done ? '✓ ' + words.copied : words.copy_failed);
    say(done ? words.copied : words.copy_failed);
    setTimeout(function () { setText(button, label); }, 4000);
  }

  document.addEventListener('click', function (event) {
    var target = event.target;
    if (target.getAttribute && target.getAttribute('data-copies')) copy(target);
    else if (target.readOnly && target.setSelectionRange) target.setSelectionRange(0, target.value.length);
    else if (target.getAttribute && target.getAttribute('data-turn')) turn(Number(target.getAttribute('data-turn')));
  });

  // One beat a second drives everything.

  function begin() {
    startClocks();
    paintOffer();
    if (socket && (!wantsSocket() || socketFor !== data('request'))) disconnect();
  }

  function beat() {
    var over = paintClocks();
    if (document.hidden && !wanted) return;
    if (wantsSocket() && !socket && now() >= retryAt) connect();
    var pause = 1000 * Number(data('poll'));
    if (live && data('state') === 'pay') pause *= 5;
    if (over || misses) pause = SHORTEST_PAUSE;
    if (wanted || (pause && now() - lastLook >= pause - BEAT / 2)) look();
  }

  function back() {
    if (!document.hidden) look();
  }

  window.addEventListener('pageshow', function (event) {
    if (!event.persisted) return;
    stay();
    look();
  });
  window.addEventListener('pagehide', disconnect);
  document.addEventListener('visibilitychange', back);
  window.addEventListener('online', back);
  window.addEventListener('offline', back);

  begin();
  if (wantsSocket()) connect();
  setInterval(beat, BEAT);
})();
