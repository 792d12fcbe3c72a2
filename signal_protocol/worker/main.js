// The worker that signal_protocol starts: `node main.js FD`, FD being one end of a socket pair.

import { operations } from './operations.js';
import { serve } from './serve.js';

serve(operations, Number(process.argv[2]));
